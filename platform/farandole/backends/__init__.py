"""Backends: where submitted jobs wait and run. Names are imported from the modules: most commands need few of them."""
