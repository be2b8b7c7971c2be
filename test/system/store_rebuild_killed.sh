#!/bin/bash
# A rebuild that is killed, wherever it was, leaves a store that the next one makes whole: no blob and no name is lost.
. "$(dirname "$0")/lib.sh"
need jq

rounds=${ROUNDS:-8}
files=24
start_daemon
for ((i = 0; i < files; i++)); do
  make_random "$TEST_DIR/file$i" "$((i * 400 + 1))K"
  ctl put "$TEST_DIR/file$i" --name "dir$((i % 3))/file$i" >/dev/null
done
ctl name files/second "sha256:$(sha256_of "$TEST_DIR/file7")"
ctl put - <<<"without a name" >/dev/null
entries() {
  local dir
  for dir in files files/dir0 files/dir1 files/dir2 blobs; do ctl --json ls "$dir" | jq -c '.entries[]'; done
}
names() { entries | jq -c 'select(.type != "directory") | [.name, .digest, .size, .mode, .uid]' | sort; }
names >"$TEST_DIR/before"
total=$(status_of .disk.used)
stop_daemon
objects() { (cd "$STORE/objects" && find . -type f | sort); }
objects >"$TEST_DIR/objects"

# read_by PID: the bytes that it has read so far.
read_by() { awk '$1 == "rchar:" { print $2 }' "/proc/$1/io" 2>/dev/null || echo 0; }

# Killed after so much of the way; the last two as soon as the new catalog is seen, and at once.
rm "$STORE"/catalog.sqlite*
killed=0
for ((round = 0; round < rounds + 2; round++)); do
  "$BIN/blobcached" --config "$CONFIG" --rebuild >"$TEST_DIR/rebuild.log" 2>&1 </dev/null &
  pid=$!
  BACKGROUND_PIDS+=("$pid")
  until process_is_gone "$pid"; do
    if ((round < rounds)); then
      (($(read_by "$pid") < total * round / rounds)) || break
    elif ((round == rounds)); then
      [[ ! -e $STORE/catalog.sqlite.rebuilding ]] || break
    else
      break
    fi
  done
  status=0
  kill -KILL "$pid" 2>/dev/null || true
  { wait "$pid" || status=$?; } 2>/dev/null
  if ((status == 137)); then killed=$((killed + 1)); fi
  # It may have been quicker than us: then there is a catalog to lose again.
  if ((status == 0)); then rm "$STORE"/catalog.sqlite; fi
  [[ ! -e $STORE/catalog.sqlite ]] || rm "$STORE"/catalog.sqlite*
  expect_equal "$(cat "$TEST_DIR/objects")" "$(objects)" "the files of objects after a rebuild that was killed"
done
((killed > rounds / 2)) || fail "only $killed rebuilds were killed"
# As long as none came to its end the store does not start as an empty one.
expect_fail any 'catalog' daemon_once

daemon_once --rebuild >/dev/null 2>&1
[[ ! -e $STORE/catalog.sqlite.rebuilding ]] || fail "a half catalog is left"
start_daemon
names >"$TEST_DIR/after"
diff "$TEST_DIR/before" "$TEST_DIR/after" || fail "names and blobs differ"
for ((i = 0; i < files; i++)); do
  ctl get "files/dir$((i % 3))/file$i" | cmp - "$TEST_DIR/file$i" || fail "file$i"
done
ctl scrub --rate unlimited | grep -q "^$((files + 1)) objects, .*: no damage\$" || fail "a scrub after it"
ctl gc --dry-run | grep -q '^would remove 0 items' || fail "leftovers"
stop_daemon
