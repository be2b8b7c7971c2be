#!/bin/bash
# runner.sh SECONDS SCRIPT: runs one system test with a time limit, and fails a test that leaves something
# behind: a process, a mount, a loop device or a file. What was left is cleaned away, so that the next test
# starts from the same ground also after one that was killed.
set -uo pipefail

limit=$1
script=$2
TMPDIR=$(mktemp -d /tmp/bcs.XXXXXX)
export TMPDIR

# The test runs in a process group of its own (timeout makes it); its leader's exit status is ours.
timeout -k 30 "$limit" bash "$script" </dev/null
status=$?
if ((status == 124 || status == 137)); then
  echo "FAIL: not done within $limit seconds"
  status=1
fi

left=()
# Ours is every process that was started with our folder as TMPDIR. Read in full first: grep finds itself.
ours=$(grep -lszxF -- "TMPDIR=$TMPDIR" /proc/[0-9]*/environ)
for environment in $ours; do
  pid=${environment//[^0-9]/}
  if ((pid == $$)) || [[ ! -r /proc/$pid/cmdline ]]; then continue; fi
  name=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")
  [[ -n $name ]] || continue
  left+=("process $pid: $name")
  kill -9 "$pid" 2>/dev/null
done
while read -r point; do
  left+=("mount: $point")
  umount "$point" 2>/dev/null || umount -l "$point" 2>/dev/null || fusermount3 -uz "$point"
done < <(awk '{print $2}' /proc/self/mounts | grep -F "$TMPDIR/" | sort -r)
if command -v losetup >/dev/null; then
  while read -r device file; do
    if [[ $file == "$TMPDIR/"* ]]; then
      left+=("loop device: $device")
      losetup -d "$device"
    fi
  done < <(losetup -n -l -O NAME,BACK-FILE 2>/dev/null)
fi
while read -r file; do
  left+=("file: $file")
done < <(find "$TMPDIR" -xdev -mindepth 1 -maxdepth 1)
rm -rf --one-file-system "$TMPDIR"

if ((${#left[@]} > 0)); then
  printf 'left behind: %s\n' "${left[@]}"
  ((status != 0 && status != 77)) || status=1
fi
exit "$status"
