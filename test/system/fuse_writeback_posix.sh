#!/bin/bash
# A mount that holds back what is written does what a program relies on, call by call.
export WRITEBACK=yes
exec bash "$(dirname "$0")/fuse_write_posix.sh"
