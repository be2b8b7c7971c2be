#!/bin/bash
# Files of a real nginx are listed, read at every door, cached by ETag, and read on when it was killed and came back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/httplib.sh"
need jq nginx curl openssl nbdcopy python3
need_fuse

WWW=$TEST_DIR/www
mkdir -p "$WWW/sub/deep" "$WWW/plain"
make_random "$WWW/big" 9M
make_random "$WWW/sub/a b+c%&'ü" 300K
printf 'small' >"$WWW/sub/small"
: >"$WWW/sub/empty"
make_random "$WWW/sub/deep/d" 5000
for i in $(seq 1 40); do echo "$i" >"$WWW/plain/n$i"; done
make_certificate

start_nginx
write_config
http_origin up "https://localhost:$TLS_PORT/" "tls_ca = \"$TEST_DIR/ca.pem\""
http_origin json "http://127.0.0.1:$PORT/json/"
http_origin one "http://127.0.0.1:$PORT/" 'connections = 1'
http_origin unlisted "http://127.0.0.1:$PORT/unlisted/"
http_origin untrusted "https://localhost:$TLS_PORT/"
http_origin slow "http://127.0.0.1:$PORT/" 'rate_limit = "1MiB"'
# One that lets everybody in and says nothing.
in_background python3 -c '
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(600)' >"$TEST_DIR/deaf"
wait_until 20 test -s "$TEST_DIR/deaf" || fail "no deaf server"
http_origin deaf "http://127.0.0.1:$(cat "$TEST_DIR/deaf")/" 'request_timeout = "8s"'
start_daemon
mount_at "$MNT"

# Who waits for one origin keeps nobody from another.
for i in $(seq 1 12); do
  in_background cat "$MNT/origins/deaf/f$i" >"$TEST_DIR/deaf.$i" 2>&1
done
expect_equal small "$(cat "$MNT/origins/up/sub/small")" "beside an origin that does not answer"
for pid in "${BACKGROUND_PIDS[@]:2}"; do
  kill -0 "$pid" 2>/dev/null || fail "nobody waits for the deaf origin any more"
done

# What it has: nginx's page and its JSON tell the same as the folder.
for origin in up json one; do
  (cd "$WWW" && find . -printf '%P %y %s\n' | sed -E 's/ d [0-9]+$/ d/' | sort) >"$TEST_DIR/there"
  (cd "$MNT/origins/$origin" && find . -printf '%P %y %s\n' | sed -E 's/ d [0-9]+$/ d/' | sort) >"$TEST_DIR/here"
  # nginx's page lists no names that begin with a dot; there are none.
  expect_same "$TEST_DIR/there" "$TEST_DIR/here" "the tree of $origin"
done
expect_equal "$(stat -c %Y "$WWW/big")" "$(stat -c %Y "$MNT/origins/up/big")" "the time of modification"
expect_fail any 'No such file' cat "$MNT/origins/up/nothing"
expect_fail 1 'does not list|not supported|unlisted' ctl ls origins/unlisted
expect_fail any . ls "$MNT/origins/unlisted/"
expect_same "$WWW/big" "$MNT/origins/unlisted/big" "by name, without a listing"

# The same bytes at every door, and as curl has them.
curl -fsS --cacert "$TEST_DIR/ca.pem" "https://localhost:$TLS_PORT/sub/a%20b%2Bc%25%26%27%C3%BC" -o "$TEST_DIR/curled"
expect_same "$TEST_DIR/curled" "$MNT/origins/up/sub/a b+c%&'ü" "FUSE, and curl"
ctl get "origins/up/sub/a b+c%&'ü" -o "$TEST_DIR/got"
expect_same "$TEST_DIR/curled" "$TEST_DIR/got" "blobcachectl get"
expect_equal small "$(cat "$MNT/origins/up/sub/small")" "a small file"
expect_equal "" "$(cat "$MNT/origins/up/sub/empty")" "an empty file"

# 4 KiB cost 4 KiB, once.
: >"$ACCESS"
qemu-io -r -f raw -c 'read 1M 4k' -c 'read 1M 4k' "$(nbd_uri origins/up/big)" >/dev/null
expect_equal 1 "$(grep -c '"bytes=1048576-1052671" 206 4096' "$ACCESS")" "the requests for 4 KiB read twice"
expect_equal 1 "$(grep -c '"GET /big' "$ACCESS")" "what else was read"
nbdcopy "$(nbd_uri origins/up/big)" "$TEST_DIR/copy"
expect_same "$WWW/big" "$TEST_DIR/copy" "nbdcopy"
expect_same "$WWW/big" "$MNT/origins/up/big" "FUSE"
grep -q 'HTTP/2' "$ACCESS" || fail "HTTP/2 was not spoken"
expect_equal 0 "$(grep -c '"GET /big.*"-" 200' "$ACCESS")" "requests without a range"
# Adjacent pieces share requests: 9 MiB are 36 extents.
ctl evict origins/one/big
: >"$ACCESS"
ctl get origins/one/big -o "$TEST_DIR/got"
expect_same "$WWW/big" "$TEST_DIR/got" "over one connection"
(($(grep -c '"GET /big' "$ACCESS") < 30)) || fail "extents were not coalesced"

# A changed file is a new version; who has the old one open never sees the new one.
exec 9<"$MNT/origins/one/plain/n1"
expect_equal 1 "$(cat <&9)" "before the change"
make_random "$WWW/changing" 3M old
exec 8<"$MNT/origins/one/changing"
head -c 4096 <&8 | cmp - <(head -c 4096 "$WWW/changing") || fail "the old version"
cp "$WWW/changing" "$TEST_DIR/old"
make_random "$WWW/changing" 3M new
cp "$WWW/changing" "$TEST_DIR/new"
touch -d '2031-01-01' "$WWW/changing"
cat <&8 >"$TEST_DIR/rest" 2>"$TEST_DIR/err" && fail "the rest of a version that is gone was read"
cmp -n "$(stat -c %s "$TEST_DIR/rest")" "$TEST_DIR/rest" <(tail -c +4097 "$TEST_DIR/old") || fail "a mix"
exec 8<&- 9<&-
expect_same "$TEST_DIR/new" "$MNT/origins/one/changing" "the new version"
# The error has its reason.
exec 8<"$MNT/origins/one/sub/deep/d"
exec 8<&-

# A server that cannot show who it is.
expect_fail 1 'TLS: .*certificate' ctl get origins/untrusted/big -o "$TEST_DIR/none"

# A limit of the rate: 3 MiB at 1 MiB a second, less what may come early.
before=$(date +%s%N)
ctl get origins/slow/big --offset 0 --length 3145728 -o "$TEST_DIR/slow"
(($(date +%s%N) - before > 1500000000)) || fail "the rate was not limited"
cmp -n 3145728 "$WWW/big" "$TEST_DIR/slow" || fail "bytes at a limited rate"

# It is killed while it is read, and comes back.
ctl evict origins/one/big
exec 8<"$MNT/origins/one/big"
head -c 65536 <&8 >/dev/null
kill_nginx
in_background ctl get origins/up/sub/deep/d -o "$TEST_DIR/d"
getter=$BACKGROUND_PID
in_background nbdcopy "$(nbd_uri origins/one/big)" "$TEST_DIR/through"
copier=$BACKGROUND_PID
sleep 1
start_nginx
wait "$copier" || fail "a read did not outlive its server"
wait "$getter" || fail "a look at a name did not outlive its server"
expect_same "$WWW/big" "$TEST_DIR/through" "what was read while the server was away"
exec 8<&-

# What has an ETag is there after a restart, without another byte.
ctl get origins/up/big -o "$TEST_DIR/got"
unmount_at "$MNT"
stop_daemon
start_daemon
: >"$ACCESS"
ctl get origins/up/big -o "$TEST_DIR/got"
expect_same "$WWW/big" "$TEST_DIR/got" "after a restart"
expect_equal 0 "$(grep -c '"GET /big' "$ACCESS")" "requests for what the disk has"
ctl volume create v --base origins/up/big
qemu-io -f raw -c 'write -P 1 4k 4k' "$(nbd_uri volumes/v)" >/dev/null
expect_equal true "$(ctl --json status | jq '[.origins[] | select(.name=="up")][0].reachable')" "what status says"
stop_daemon
