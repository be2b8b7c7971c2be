#!/bin/bash
# What blobcachectl does with local files: sources of every kind, holes, outputs that appear whole or not at all,
# pipes that close, and Ctrl-C.
. "$(dirname "$0")/lib.sh"
need jq python3

cd "$TEST_DIR"
start_daemon
make_random data 3M
make_random small 5000
mkfifo pipe

# leftovers: what a get that ended early might have left beside its output.
leftovers() { find "$TEST_DIR" -maxdepth 1 -name '.*.part'; }

# --- put: a regular file, the rest of one, a pipe, an empty one, a file that says it is empty, a symbolic link.
expect_equal "sha256:$(sha256_of data)" "$(ctl put data --name a/data)" "a file"
expect_equal "sha256:$(tail -c +1000001 data | sha256_of -)" \
  "$({ head -c 1000000 >/dev/null && ctl put -; } <data)" "the rest of standard input"
expect_equal "sha256:$(sha256_of data)" "$(tail -c +1 data | ctl put -)" "a pipe"
cat small >pipe &
expect_equal "sha256:$(sha256_of small)" "$(ctl put pipe)" "a fifo"
expect_equal "sha256:$(sha256_of /dev/null)" "$(ctl put /dev/null --name empty)" "nothing"
expect_equal "sha256:$(sha256_of /proc/version)" "$(ctl put /proc/version)" "a file of /proc"
ln -s small link
expect_equal "sha256:$(sha256_of small)" "$(ctl put link)" "a link"

# --- Names with and without files/ are one name, and every byte that UTF-8 has may be in them.
ctl put small --name files/x/one >/dev/null
ctl put small --name x/two >/dev/null
expect_equal "$(printf 'one\ntwo')" "$(ctl ls files/x)" "names under files/x"
ctl put small --name $'odd/sp ace\ttab-größe\e[31m' >/dev/null
expect_equal 'sp ace\ttab-größe\x1b[31m' "$(ctl ls files/odd)" "an odd name, as ls shows it"
ctl get $'files/odd/sp ace\ttab-größe\e[31m' | cmp - small || fail "get of an odd name"

# --- A digest that is asked for.
ctl put small --digest "sha256:$(sha256_of small)" >/dev/null
expect_fail 1 'the content has the digest' ctl put small --digest "sha256:$(sha256_of data)" --name wrong
expect_fail 1 'no such file' ctl stat files/wrong

# --- get: whole, parts, nothing.
ctl get files/a/data -o out
expect_same data out "get -o"
ctl get files/a/data --offset 1MiB --length 64KiB >out
dd if=data bs=64K skip=16 count=1 status=none | cmp - out || fail "a part with units"
ctl get files/a/data --length 0 >out
expect_equal 0 "$(stat -c %s out)" "bytes of a part without length"
ctl get files/a/data --offset 3145728 -o out
expect_equal 0 "$(stat -c %s out)" "bytes from the very end on"

# --- Holes go in and come out.
truncate -s 64M sparse
printf end >>sparse
ctl put sparse --name sparse >/dev/null
ctl get files/sparse -o back
expect_same sparse back "a sparse file"
(($(stat -c %b back) <= 16)) || fail "get wrote zeros: $(stat -c %b back) blocks"

# --- An output that is there keeps its mode, is followed through a link, and stays when the get fails.
cp small kept
chmod 0640 kept
ln -s kept kept-link
expect_fail 1 'no such file' ctl get files/no-such -o kept-link
expect_same small kept "an output after a get that failed"
ctl get files/a/data -o kept-link
expect_same data kept "an output through a link"
[[ -L kept-link ]] || fail "the link was replaced"
expect_equal 640 "$(stat -c %a kept)" "mode of the output"
expect_equal "" "$(leftovers)" "temporary files"

# --- What is no regular file is written directly.
ctl get files/a/data -o /dev/null
[[ -c /dev/null ]] || fail "/dev/null was replaced"
expect_fail 1 'cannot write /dev/full: No space left' ctl get files/a/data -o /dev/full
cat pipe >out &
ctl get files/a/data -o pipe
wait $!
expect_same data out "get into a fifo"

# --- A reader that goes early ends a get quietly.
status=0
get_for_a_moment() {
  set +o pipefail
  "$BIN/blobcachectl" get files/sparse 2>err | head -c 1 >/dev/null
  return "${PIPESTATUS[0]}"
}
(get_for_a_moment) || status=$?
expect_equal 141 "$status" "status of a get whose reader went"
expect_equal 0 "$(stat -c %s err)" "bytes on stderr of a get whose reader went"

# --- Ctrl-C, in the middle of a get and of a put: status 130, no file left, nothing stored. The get cannot end by
# itself, since nobody empties the pipe that it writes to; the put, since nobody ends the one that it reads from.
# A command in the background begins with SIGINT ignored, which env ends: before that, an interrupt would be lost.
interrupt_when() {
  local pid=$1 status=0
  shift
  wait_until 30 minds_interrupts "$pid" || fail "ignores SIGINT"
  wait_until 30 "$@" || fail "was never true: $*"
  kill -INT "$pid"
  wait_until 30 process_is_gone "$pid" || fail "goes on after an interrupt"
  wait "$pid" || status=$?
  expect_equal 130 "$status" "status after an interrupt"
}
minds_interrupts() { (((16#$(awk '$1 == "SigIgn:" {print $2}' "/proc/$1/status") & 2) == 0)); }
has_open() { [[ -n $(find "/proc/$1/fd" -lname "$TEST_DIR/$2") ]]; }
has_temporary() { [[ -n $(leftovers) ]]; }
mkfifo full
exec 7<>full
env --default-signal=INT "$BIN/blobcachectl" get files/sparse -o full &
interrupt_when $! has_open $! full
exec 7>&-

make_random large 128M
ctl put large --name large >/dev/null
env --default-signal=INT "$BIN/blobcachectl" get files/large -o interrupted 2>err &
interrupt_when $! has_temporary
[[ ! -e interrupted ]] || fail "an interrupted get left its output"
expect_equal "" "$(leftovers)" "temporary files after an interrupt"
expect_equal 0 "$(stat -c %s err)" "bytes on stderr of an interrupted get"

exec 8<>pipe
printf 'half a file' >&8
env --default-signal=INT "$BIN/blobcachectl" put pipe --name interrupted &
put_is_open() { [[ $(status_of .grpc.open) != 0 ]]; }
interrupt_when $! put_is_open
exec 8>&-
expect_fail 1 'no such file' ctl stat files/interrupted
store_has_no_half_puts() { [[ -z $(ls "$STORE/tmp") ]]; }
wait_until 30 store_has_no_half_puts || fail "a half put stays in $STORE/tmp"

# --- A bar is drawn on a terminal and is gone afterwards; elsewhere there is none.
cat >terminal.py <<'PYTHON'
import os, pty, sys
output = b""
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        output += os.read(terminal, 65536)
    except OSError:
        break
os.write(1, output)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PYTHON
(cat small; sleep 0.6; cat small; sleep 0.2; cat small) >pipe &
python3 terminal.py "$BIN/blobcachectl" put pipe >screen
wait $!
expect_equal "sha256:$(cat small small small | sha256_of -)" \
  "$(tr '\r' '\n' <screen | sed 's/\x1b\[K//g' | grep -v '^$' | tail -n 1)" "what stays on the terminal"

stop_daemon
