from __future__ import annotations

from tests.support.made_data import (
    empty_store,
    home,
    made,
    make_job,
    make_module_job,
    module_home,
    write_job,
    write_module_job,
)

__all__ = ["empty_store", "home", "made", "make_job", "make_module_job", "module_home", "write_job", "write_module_job"]
