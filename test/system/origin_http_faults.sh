#!/bin/bash
# Whatever an HTTP server does wrong, no wrong byte is read, nobody waits longer than is said, and the error says why.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/httplib.sh"
need jq curl python3 openssl

/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd"

WWW=$TEST_DIR/www
mkdir -p "$WWW"
make_random "$WWW/f" 2M
make_random "$WWW/g" 2M
make_random "$WWW/big" 40M
make_random "$WWW/a" 100K
printf 'x' >"$WWW/one"
make_certificate
start_faults
write_config
http_origin web "http://127.0.0.1:$FAULT_PORT/" 'request_timeout = "6s"' 'stall_timeout = "2s"' 'connect_timeout = "2s"'
http_origin calm "http://127.0.0.1:$FAULT_PORT/" 'request_timeout = "60s"' 'stall_timeout = "2s"'
start_daemon

# get NAME [ORIGIN]: reads it, and if that succeeds compares. fresh NAME [ORIGIN]: forgets what is here of it.
get() {
  ctl get "origins/${2:-web}/$1" -o "$TEST_DIR/got" || return
  expect_same "$WWW/$1" "$TEST_DIR/got" "$1 in mode $(cat "$TEST_DIR/mode")"
}
fresh() {
  fault ok
  ctl evict "origins/${2:-web}/$1" >/dev/null
}
# refused REGEX NAME [SECONDS]: it cannot be read, with that message, and soon.
refused() { within "${3:-8}" expect_fail 1 "$1" ctl get "origins/web/$2" -o "$TEST_DIR/none"; }

fault ok
get f

# Faults that pass: what is missing is asked for again, from where it broke.
for mode in "3: truncate 1000" "2: status 500" "2: status 503 1" "1: status 429 1" "2: wrongrange" "2: barepart" \
  "2: nolength short 5000" "1: wrongrange" "nolength" "careless"; do
  fresh f
  fault "$mode"
  within 8 get f || fail "$mode"
done
fresh f
: >"$FAULT_LOG"
fault "1: truncate 100000"
get f
# Only what begins anew in the middle begins off a page.
resumed=$(sed -nE 's/^GET \/f bytes=([0-9]+)-.*/\1/p' "$FAULT_LOG" | awk '$1 % 4096 == 100000 % 4096' | wc -l)
expect_equal 1 "$resumed" "requests that went on where one broke"

# Faults that stay.
fresh f
fault wrongrange
refused 'bytes 0 to [0-9]+ were asked for, and 4096 to' f
fault barepart
refused 'a part without a Content-Range' f
fault status 500
refused 'HTTP 500 Internal Server Error' f
fault status 404
refused 'changed at the origin while it was open .it is gone' f
fault wrongtotal
refused 'changed at the origin .*it has 2097153 bytes, not 2097152' f
fault gzip
refused 'encode' f
# What comes beyond the end is not looked at, or is an error; never more bytes.
fault nolength long
get f || true
fresh f
fault status 403 all
refused 'HTTP 403 Forbidden' f

# Nobody waits longer than is said: a server that accepts and says nothing, and one that sends byte by byte.
fresh f
fault hang
refused 'in time: Operation too slow' f 9
fault drip
refused 'in time: Operation too slow' f 9
fault ok
get f

# A file that changes while it is read is an error, and then another version; also at a server that knows no conditions.
for mode in ok careless; do
  fresh big calm
  fault "$mode"
  cp "$WWW/big" "$TEST_DIR/old"
  # Kept open, with its beginning here.
  mkfifo "$TEST_DIR/gate.$mode"
  in_background /usr/bin/python3 -c "
import nbd, sys
h = nbd.NBD()
h.connect_uri('$(nbd_uri origins/calm/big)')
old = open('$TEST_DIR/old', 'rb').read()
assert h.pread(4096, 0) == old[:4096]
open('$TEST_DIR/opened.$mode', 'w')
open('$TEST_DIR/gate.$mode').read()
assert h.pread(4096, 0) == old[:4096]
try:
    if h.pread(4096, 30 << 20) == old[30 << 20:(30 << 20) + 4096]: sys.exit(7)
    sys.exit(8)
except nbd.Error as error:
    assert error.errnum == 5, error
"
  reader=$BACKGROUND_PID
  wait_until 20 test -e "$TEST_DIR/opened.$mode" || fail "the file was not opened"
  make_random "$WWW/big" 40M "changed in mode $mode"
  echo go >"$TEST_DIR/gate.$mode"
  wait "$reader" || fail "a version that is gone: $? (7: old bytes, 8: new bytes)"
  get big calm
done

# Without an ETag nothing outlives the open, and those who have it open share it; with a weak one it is the same.
for mode in noetag weak; do
  fault "$mode"
  get g
  : >"$FAULT_LOG"
  get g
  grep -q 'GET /g' "$FAULT_LOG" || fail "what has no strong validator was kept (mode $mode)"
done

# Without ranges: read in order, once, whatever the size; other bytes as far as is sensible.
for mode in norange norange-noetag; do
  fresh big
  fault "$mode"
  : >"$FAULT_LOG"
  get big
  asked=$(grep -c 'GET /big' "$FAULT_LOG")
  ((asked <= 12)) || fail "a file without ranges was asked for $asked times"
  ctl get origins/web/big --offset 30000000 --length 4096 -o "$TEST_DIR/part"
  cmp -n 4096 "$TEST_DIR/part" <(tail -c +30000001 "$WWW/big") || fail "a part without ranges"
done

# Without HEAD.
fault nohead
get a calm
grep -q 'GET /a bytes=0-0' "$FAULT_LOG" || fail "what refuses HEAD was not asked otherwise"

# Redirects.
fault circle
refused 'redirects lead in a circle' a
fault far
refused 'redirects more than 8 times' one
fault redirect "http://localhost:$FAULT_PORT"
refused 'redirects to a private address, which only private_redirects allows' one
fault redirect "file:///etc/passwd?"
refused 'something else than http and https' one

# Who is told to come back in an hour does not wait, nor does who comes next, and the server is left alone.
fresh f
fault status 429 3600
refused 'in time: the server answers HTTP 429 Too Many Requests' f 2
fault ok
: >"$FAULT_LOG"
refused 'in time: the server answers HTTP 429 Too Many Requests' one 2
expect_equal 0 "$(grep -c GET "$FAULT_LOG")" "requests to a server that wants to be left alone"
stop_daemon

# Credentials go to the origin alone, and into no log.
printf 'sesame-1234\n' >"$TEST_DIR/token"
printf '# for the test\nX-Secret: hidden-5678\n' >"$TEST_DIR/headers"
first=$FAULT_PORT first_log=$FAULT_LOG
start_faults
second=$FAULT_PORT second_log=$FAULT_LOG
start_faults "$TEST_DIR/server.pem" "$TEST_DIR/server.key"
tls=$FAULT_PORT tls_log=$FAULT_LOG
secrets=("token_file = \"$TEST_DIR/token\"" "header_file = \"$TEST_DIR/headers\"" 'private_redirects = true')
http_origin with "http://127.0.0.1:$first/" "${secrets[@]}"
http_origin safe "https://localhost:$tls/" "${secrets[@]}" "tls_ca = \"$TEST_DIR/ca.pem\""
http_origin wary "https://localhost:$tls/" 'request_timeout = "5s"'
start_daemon
: >"$first_log"
fault ok
get a with
expect_equal 0 "$(grep -cv ' Bearer_sesame-1234 hidden-5678$' "$first_log")" "requests without credentials"
ctl evict origins/with/a
: >"$first_log"
fault redirect "http://127.0.0.1:$second"
refused . a
ctl get origins/with/a -o "$TEST_DIR/none" && fail "both servers redirect"
expect_equal 0 "$(grep -c 'sesame\|hidden' "$second_log")" "secrets sent to another port"
fault ok
get a safe
grep -q 'Bearer_sesame-1234' "$tls_log" || fail "no credentials over TLS"
fault redirect "http://localhost:$second"
: >"$second_log"
ctl get origins/safe/one -o "$TEST_DIR/none" 2>/dev/null && fail "the redirect leads in a circle"
grep -q '/one' "$second_log" || fail "the redirect was not followed"
expect_equal 0 "$(grep -c 'sesame\|hidden' "$second_log")" "secrets sent in the clear"
fault ok
within 8 expect_fail 1 'TLS: .*certificate' ctl get origins/wary/a -o "$TEST_DIR/none"
if grep -q 'sesame\|hidden' "$DAEMON_LOG"; then fail "a secret is in the log"; fi
ctl --json status >"$TEST_DIR/status"
if grep -q 'sesame\|hidden' "$TEST_DIR/status"; then fail "a secret is in the status"; fi
mv "$TEST_DIR/token" "$TEST_DIR/token.away"
expect_fail 1 'token_file: .*token: No such file' ctl get origins/with/one -o "$TEST_DIR/none"
mv "$TEST_DIR/token.away" "$TEST_DIR/token"

# One that only fails is given up: then what is here is read, everything else is an error at once, and it comes back.
get a
ctl get origins/web/f --offset 0 --length 4096 -o "$TEST_DIR/part"
fault status 500 all
refused 'HTTP 500' g
for _ in $(seq 1 20); do
  ctl get origins/web/g -o "$TEST_DIR/none" 2>/dev/null || true
  sleep 0.5
  if log_says 'origin web .*is given up'; then break; fi
done
wait_for_log 'origin web .*is given up: the server answers HTTP 500'
refused 'is given up for now: .*HTTP 500' g 1
get a
expect_equal false "$(ctl --json status | jq '[.origins[] | select(.name=="web")][0].reachable')" "what status says"
fault ok
is_back() { ctl get origins/web/g -o "$TEST_DIR/got" 2>/dev/null; }
wait_until 40 is_back || fail "the origin did not come back"
expect_same "$WWW/g" "$TEST_DIR/got" "after it came back"
wait_for_log 'origin web .*the server is back'
stop_daemon
