#!/bin/bash
# Puts of a large blob beside SHA-256 and the disk: see store_puts.py --help.
exec python3 "$(dirname "$0")/store_puts.py" "$@"
