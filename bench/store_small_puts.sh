#!/bin/bash
# Small blobs over sixteen streams and over one: see store_small_puts.py --help.
exec python3 "$(dirname "$0")/store_small_puts.py" "$@"
