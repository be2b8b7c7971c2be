#!/bin/bash
# kill -9 at moments of chance under load from many clients: what was answered is there, and nothing by halves.
# Environment: ROUNDS, kills (8); SEED, of the moments and of the load (made up and printed otherwise).
# limit: 300 seconds
# runs alone
. "$(dirname "$0")/lib.sh"
need jq nbdcopy openssl
need_fuse

ROUNDS=${ROUNDS:-8}
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "SEED=$SEED ROUNDS=$ROUNDS"
CLIENTS=3 NAMES=5
POOL=$TEST_DIR/pool      # the contents that are put; named by number
JOURNALS=$TEST_DIR/said  # a file a client: "begin KIND NAME HEX", then "done" when it was answered
mkdir "$POOL" "$JOURNALS" "$MNT"
declare -A MEANS=()  # what each name means, by the answers; absent: nothing
declare -A KEPT=()   # blobs that were put
declare -A MAYBE=()  # blobs whose put was not answered
declare -A ALSO=()   # what a name may mean as well, as an answer never came
DIGESTS=()

number=0
for size in 1 100 4096 5000 70000 300000 1048576 1200000 3000000; do
  for _ in 1 2 3; do
    make_random "$POOL/$number" "$size" "$SEED.$number"
    DIGESTS+=("$(sha256_of "$POOL/$number")")
    number=$((number + 1))
  done
done
is_whole() { [[ " ${DIGESTS[*]} " == *" $1 "* ]]; }

# client NUMBER SEED: puts, binds and removes until the daemon is gone. Its names are no other's.
client() {
  local i kind name
  RANDOM=$2
  while :; do
    name=c$1/n$((RANDOM % NAMES))
    i=$((RANDOM % number))
    kind=$((RANDOM % 10))
    if ((kind == 0)); then
      echo "begin rm $name -"
      # A name that is not there is an answer, too.
      ctl rm "files/$name" 2>"$TEST_DIR/rm.$1" || grep -q 'no such file' "$TEST_DIR/rm.$1" || return 0
    elif ((kind == 1)); then
      echo "begin put - ${DIGESTS[i]}"
      ctl put "$POOL/$i" >/dev/null 2>&1 || return 0
    else
      echo "begin put $name ${DIGESTS[i]}"
      ctl put "$POOL/$i" --name "$name" >/dev/null 2>&1 || return 0
    fi
    echo "done"
  done >"$JOURNALS/$1"
}

# reader DOOR SEED: reads names until it is killed; what was read to its end was put so.
reader() {
  local name digest
  RANDOM=$2
  while [[ ! -e $TEST_DIR/stop ]]; do
    name=files/c$((RANDOM % CLIENTS))/n$((RANDOM % NAMES))
    case $1 in
      fuse) cat "$MNT/$name" ;;
      nbd) nbdcopy "$(nbd_uri "$name")" - ;;
      grpc) ctl get "$name" ;;
    esac >"$TEST_DIR/read.$1" 2>/dev/null || continue
    digest=$(sha256_of "$TEST_DIR/read.$1")
    is_whole "$digest" || echo "$1: $name read as $digest" >>"$TEST_DIR/torn"
  done
}

# Takes one client's journal into the account.
account() {
  local what kind name hex pending=
  while read -r what kind name hex; do
    if [[ $what == begin ]]; then
      pending="$kind $name $hex"
      continue
    fi
    read -r kind name hex <<<"$pending"
    pending=
    if [[ $kind == rm ]]; then unset "MEANS[$name]"; fi
    if [[ $kind == put ]]; then KEPT[$hex]=1; fi
    if [[ $kind == put && $name != - ]]; then MEANS[$name]=$hex; fi
  done <"$1"
  [[ $pending ]] || return 0
  read -r kind name hex <<<"$pending"
  ALSO[$name]=$hex
  if [[ $kind == put ]]; then MAYBE[$hex]=1; fi
}

# Reads everything through the mount and compares it with the account, which then holds what is there.
verify() {
  local digest path name n c
  local -A found=() blobs=()
  while read -r digest path; do
    expect_equal "$path" "$digest" "the bytes of blobs/$path"
    [[ ${KEPT[$path]:-} || ${MAYBE[$path]:-} ]] || fail "blobs/$path: nobody put it"
    blobs[$path]=1
  done < <(cd "$MNT/blobs" && find . -type f -printf '%P\0' | xargs -0r sha256sum)
  for digest in "${!KEPT[@]}"; do [[ ${blobs[$digest]:-} ]] || fail "blobs/$digest was answered, and is lost"; done
  while read -r digest path; do found[$path]=$digest; done \
    < <(cd "$MNT/files" && find . -type f -printf '%P\0' | xargs -0r sha256sum)
  for ((c = 0; c < CLIENTS; c++)); do
    for ((n = 0; n < NAMES; n++)); do
      name=c$c/n$n
      digest=${found[$name]:--}
      [[ $digest == "${MEANS[$name]:--}" || $digest == "${ALSO[$name]:-none}" ]] ||
        fail "files/$name is $digest; ${MEANS[$name]:--} was answered"
      unset "found[$name]" "MEANS[$name]"
      if [[ $digest != - ]]; then MEANS[$name]=$digest; fi
    done
  done
  ((${#found[@]} == 0)) || fail "names that nobody bound: ${!found[*]}"
  for digest in "${!blobs[@]}"; do KEPT[$digest]=1; done
  ALSO=() MAYBE=()
}

# What status counts, and the files: orphans are removed in the background. A blob over 1 MiB has a map beside it.
files_are() { [[ $(find "$STORE/objects" -type f | wc -l) == "$1" ]]; }
verify_accounts() {
  local digest i files=0 bytes=0 size
  local -A counted=()
  for ((i = 0; i < number; i++)); do
    digest=${DIGESTS[i]}
    # Two of a byte each may be the same blob.
    [[ ${KEPT[$digest]:-} && ! ${counted[$digest]:-} ]] || continue
    counted[$digest]=1
    size=$(stat -c %s "$POOL/$i")
    files=$((files + (size > 1048576 ? 2 : 1)))
    bytes=$((bytes + size))
  done
  expect_equal "${#KEPT[@]}" "$(status_of .blobs)" "blobs that status counts"
  expect_equal "$bytes" "$(status_of .blob_bytes)" "bytes of blobs that status counts"
  expect_equal "${#MEANS[@]}" "$(status_of .names)" "names that status counts"
  (($(status_of .disk.used) >= bytes)) || fail "status has less disk in use than there are bytes"
  wait_until 30 files_are "$files" || fail "objects/ holds $(find "$STORE/objects" -type f | wc -l) files, not $files"
}

no_temporary_files() { [[ -z $(find "$STORE/tmp" -type f) ]]; }
has_answered() { grep -qx "done" "$JOURNALS"/* 2>/dev/null; }

# A start that is killed is a moment of chance as well.
start_and_kill() {
  "$BIN/blobcached" --config "$CONFIG" >"$TEST_DIR/killed.log" 2>&1 </dev/null &
  DAEMON_PID=$!
  sleep "0.0$((RANDOM % 10))"
  kill_daemon
}

RANDOM=$((SEED % 32768))
for ((round = 1; round <= ROUNDS; round++)); do
  if ((round % 4 == 0)); then start_and_kill; fi
  start_daemon --set "fuse.mountpoint=$MNT"
  no_temporary_files || fail "round $round: left in tmp/: $(find "$STORE/tmp" -type f)"
  verify
  verify_accounts
  rm -f "$JOURNALS"/* "$TEST_DIR/stop"
  workers=()
  for ((c = 0; c < CLIENTS; c++)); do
    in_background client "$c" "$RANDOM"
    workers+=("$BACKGROUND_PID")
  done
  for door in fuse nbd grpc; do
    in_background reader "$door" "$RANDOM"
    workers+=("$BACKGROUND_PID")
  done
  wait_until 30 has_answered || fail "round $round: no client was answered"
  sleep "$((RANDOM % 2)).$((RANDOM % 10))$((RANDOM % 10))"
  for pid in "${workers[@]}"; do
    kill -0 "$pid" 2>/dev/null || fail "round $round: a client was refused by a daemon that runs"
  done
  kill_daemon
  touch "$TEST_DIR/stop"
  for pid in "${workers[@]}"; do
    wait_until 30 process_is_gone "$pid" || fail "round $round: a client does not end"
  done
  [[ ! -e $TEST_DIR/torn ]] || fail "round $round: $(cat "$TEST_DIR/torn")"
  BACKGROUND_PIDS=()
  for journal in "$JOURNALS"/*; do account "$journal"; done
  answered=$((${answered:-0} + $(cat "$JOURNALS"/* | grep -cx "done" || true)))
done
start_daemon --set "fuse.mountpoint=$MNT"
verify
verify_accounts
stop_daemon
echo "$ROUNDS kills, $answered changes answered"
