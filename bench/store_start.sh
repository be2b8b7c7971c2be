#!/bin/bash
# The start with a large store: see store_start.py --help.
exec python3 "$(dirname "$0")/store_start.py" "$@"
