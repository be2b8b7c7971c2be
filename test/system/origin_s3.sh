#!/bin/bash
# The objects of a real S3 server (npm's s3rver, which checks signatures) are listed, read and cached at every door.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/httplib.sh"
need jq curl openssl python3 node nbdcopy
need_fuse
find_s3rver

BUCKETS=$TEST_DIR/buckets
mkdir -p "$BUCKETS"
read -r PORT _ < <(free_ports)
s3_answers() { curl -sS -o /dev/null "http://127.0.0.1:$PORT/" 2>/dev/null; }
in_background node "$S3RVER" -d "$BUCKETS" -a 127.0.0.1 -p "$PORT" --configure-bucket models \
  >"$TEST_DIR/s3rver.log" 2>&1
wait_until 30 s3_answers || fail "s3rver does not answer: $(tail -n 3 "$TEST_DIR/s3rver.log")"

# put KEY FILE: by curl's own signing; KEY is escaped already.
put() {
  curl -fsS --path-as-is --aws-sigv4 aws:amz:us-east-1:s3 -u S3RVER:S3RVER \
    -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" -T "$2" "http://127.0.0.1:$PORT/models/$1" >"$TEST_DIR/put.out" || fail "put $1"
}

make_random "$TEST_DIR/big" 9M
make_random "$TEST_DIR/odd" 70000
printf 'hello' >"$TEST_DIR/hello"
: >"$TEST_DIR/empty"
put big "$TEST_DIR/big"
put hello "$TEST_DIR/hello"
put a/b/odd%20name%2B%25%26%C3%BC "$TEST_DIR/odd"
put a/empty "$TEST_DIR/empty"
# More than one page of a listing.
for i in $(seq 1 30); do printf '%s' "$i" >"$TEST_DIR/n" && put "many/n$i" "$TEST_DIR/n"; done

printf '[default]\naws_access_key_id = WRONG\naws_secret_access_key = WRONG\n' >"$TEST_DIR/keys"
printf '; another\n[mine]\naws_access_key_id=S3RVER\naws_secret_access_key = S3RVER\n' >>"$TEST_DIR/keys"
write_config
s3_origin() {
  {
    printf '\n[[origin]]\nname = "%s"\ntype = "s3"\nurl = "%s"\n' "$1" "$2"
    printf 'endpoint = "http://127.0.0.1:%s"\npath_style = true\n' "$PORT"
    shift 2
    (($# == 0)) || printf '%s\n' "$@"
  } >>"$CONFIG"
}
s3_origin models s3://models/ "credentials_file = \"$TEST_DIR/keys\"" 'profile = "mine"'
s3_origin folder s3://models/a/ "credentials_file = \"$TEST_DIR/keys\"" 'profile = "mine"'
s3_origin wrong s3://models/ "credentials_file = \"$TEST_DIR/keys\""
s3_origin environment s3://models/
s3_origin nowhere s3://nosuchbucket/ "credentials_file = \"$TEST_DIR/keys\"" 'profile = "mine"'
export AWS_ACCESS_KEY_ID=S3RVER AWS_SECRET_ACCESS_KEY=S3RVER
start_daemon
mount_at "$MNT"

for origin in models environment; do
  expect_equal "a big hello many" "$(cd "$MNT/origins/$origin" && echo *)" "the listing of $origin"
  expect_equal 30 "$(find "$MNT/origins/$origin/many" -type f | wc -l)" "the listing of a folder"
done
expect_equal "b empty" "$(cd "$MNT/origins/folder" && echo *)" "a folder of a bucket"
expect_equal 9437184 "$(stat -c %s "$MNT/origins/models/big")" "a size"
expect_same "$TEST_DIR/odd" "$MNT/origins/models/a/b/odd name+%&ü" "an odd name"
expect_same "$TEST_DIR/odd" "$MNT/origins/folder/b/odd name+%&ü" "an odd name in a folder"
expect_equal hello "$(cat "$MNT/origins/models/hello")" "a small object"
expect_equal "" "$(cat "$MNT/origins/models/a/empty")" "an empty object"
expect_fail any 'No such file' cat "$MNT/origins/models/a/none"
nbdcopy "$(nbd_uri origins/models/big)" "$TEST_DIR/copy"
expect_same "$TEST_DIR/big" "$TEST_DIR/copy" "nbdcopy"
expect_same "$TEST_DIR/big" "$MNT/origins/models/big" "FUSE"
expect_fail 1 '403|ermission' ctl get origins/wrong/hello -o "$TEST_DIR/none"
expect_fail 1 'no such key|No such|not there|no such' ctl get origins/nowhere/hello -o "$TEST_DIR/none"

# A changed object is another version.
exec 9<"$MNT/origins/environment/hello"
printf 'other' >"$TEST_DIR/other"
put hello "$TEST_DIR/other"
wait_until 10 grep -q other "$MNT/origins/models/hello" || fail "the new version is not seen"
exec 9<&-

# What has an ETag is there after a restart.
unmount_at "$MNT"
stop_daemon
start_daemon
ctl get origins/models/big -o "$TEST_DIR/got"
expect_same "$TEST_DIR/big" "$TEST_DIR/got" "after a restart"
expect_equal 0 "$(ctl --json status | jq '[.origins[] | select(.name=="models")][0].bytes_read')" "bytes read again"
ctl --json status >"$TEST_DIR/status"
if grep -q 'AWS4\|Signature' "$DAEMON_LOG" "$TEST_DIR/status"; then fail "a signature is told"; fi
stop_daemon
