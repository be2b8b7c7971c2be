#!/bin/bash
# Reads from the disk tier beside fio: see store_disk_reads.py --help.
exec python3 "$(dirname "$0")/store_disk_reads.py" "$@"
