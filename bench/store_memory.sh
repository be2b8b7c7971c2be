#!/bin/bash
# Resident memory beside its budget: see store_memory.py --help.
exec python3 "$(dirname "$0")/store_memory.py" "$@"
