#!/bin/bash
# Requests to S3 are signed as the specification has it, with a session token, odd names and listings in pages.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/httplib.sh"
need jq python3 openssl
need_fuse

BUCKET=$TEST_DIR/bucket
mkdir -p "$BUCKET/a b/c+d" "$BUCKET/many"
make_random "$BUCKET/big" 3M
printf 'odd' >"$BUCKET/a b/c+d/e%41&f=g~(h)'ü,;:@\$!*"
for i in $(seq 1 10); do printf '%s' "$i" >"$BUCKET/many/n&$i"; done
in_background python3 "$LIB_DIR/s3_server.py" "$BUCKET" "$TEST_DIR/s3.log" >"$TEST_DIR/port"
wait_until 20 test -s "$TEST_DIR/port" || fail "the bucket does not answer"
PORT=$(cat "$TEST_DIR/port")

keys() { printf '[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n' "$@"; }
{
  keys default AKID sesame/secret+key t/oken+==
  keys wrong AKID other t/oken+==
  keys expired AKID sesame/secret+key old
} >"$TEST_DIR/keys"
write_config
# s3_origin NAME URL HOST LINE...
s3_origin() {
  {
    printf '\n[[origin]]\nname = "%s"\ntype = "s3"\nurl = "%s"\nendpoint = "http://%s:%s"\n' "$1" "$2" "$3" "$PORT"
    printf 'region = "eu-test-1"\ncredentials_file = "%s"\n' "$TEST_DIR/keys"
    shift 3
    (($# == 0)) || printf '%s\n' "$@"
  } >>"$CONFIG"
}
s3_origin path s3://bucket/ 127.0.0.1 'path_style = true'
s3_origin part "s3://bucket/a b/" 127.0.0.1 'path_style = true'
# A name beneath localhost is this machine's.
s3_origin host s3://bucket/ localhost
s3_origin wrong s3://bucket/ 127.0.0.1 'path_style = true' 'profile = "wrong"'
s3_origin expired s3://bucket/ 127.0.0.1 'path_style = true' 'profile = "expired"'
s3_origin absent s3://bucket/ 127.0.0.1 'path_style = true' 'profile = "absent"'
start_daemon
mount_at "$MNT"

for origin in path host; do
  (cd "$BUCKET" && find . -printf '%P %y %s\n' | sed -E 's/ d [0-9]+$/ d/' | sort) >"$TEST_DIR/there"
  (cd "$MNT/origins/$origin" && find . -printf '%P %y %s\n' | sed -E 's/ d [0-9]+$/ d/' | sort) >"$TEST_DIR/here"
  expect_same "$TEST_DIR/there" "$TEST_DIR/here" "the tree of $origin"
  diff -r "$BUCKET" "$MNT/origins/$origin" || fail "the bytes of $origin"
done
diff -r "$BUCKET/a b" "$MNT/origins/part" || fail "a folder of the bucket"
expect_fail any 'No such file' cat "$MNT/origins/path/many/none"
expect_equal 0 "$(grep -c ' 403$' "$TEST_DIR/s3.log")" "requests that were refused"
expect_fail 1 'HTTP 403' ctl get origins/wrong/big -o "$TEST_DIR/none"
expect_fail 1 'SignatureDoesNotMatch' ctl ls origins/wrong
expect_fail 1 'InvalidToken' ctl ls origins/expired
expect_fail 1 'credentials_file: .*keys: there is no section .absent.' ctl get origins/absent/big -o "$TEST_DIR/none"

# Keys are renewed without a restart.
{
  keys default AKID other t/oken+==
  keys expired AKID sesame/secret+key t/oken+==
} >"$TEST_DIR/keys.new"
mv "$TEST_DIR/keys.new" "$TEST_DIR/keys"
wait_until 15 ctl ls origins/expired >"$TEST_DIR/listed" 2>&1 || fail "new keys are not used"
ctl --json status >"$TEST_DIR/status"
if grep -q 'sesame\|t/oken' "$DAEMON_LOG" "$TEST_DIR/status"; then fail "a secret is told"; fi
stop_daemon
