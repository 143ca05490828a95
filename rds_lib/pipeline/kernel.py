"""A notebook's kernel, run as a module: ipykernel's own, but one that ends with the process that started it."""

import os
import sys

from rds_lib.work.processes import end_with

if __name__ == "__main__":
    end_with(int(os.environ.get("JPY_PARENT_PID", os.getppid())))  # which jupyter_client sets
    del sys.path[0]  # the working folder, which a kernel does not import from
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
