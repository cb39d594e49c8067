"""Runs m3pc on the head of a cluster; `ray submit` copies this one file there.

    ray submit configs/cluster/aws.yaml configs/cluster/submit.py -- finetune --run RUN --out RUN2

The package itself is there already: `file_mounts` and `setup_commands` of the cluster's file put it there.
"""

import os
import sys

from m3pc_ray.cli import main

if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "127.0.0.1:6379")  # where the cluster's file starts the head
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    sys.exit(main())
