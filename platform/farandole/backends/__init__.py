"""Where submitted jobs run: one module or package for each backend, all behind the protocol of `base`."""
