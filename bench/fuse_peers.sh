#!/bin/bash
# blobcached's FUSE mount beside passthrough_ll, nbdfuse and native file systems: see fuse_peers.py --help.
exec python3 "$(dirname "$0")/fuse_peers.py" "$@"
