#!/bin/bash
# What reading ahead is worth, behind a link and from the disk tier: see prefetch.py --help.
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/prefetch.py" "$@"
