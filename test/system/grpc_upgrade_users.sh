#!/bin/bash
# Who administers the daemon may have it become the program that is installed as its own. Another program may only be
# named by root and the daemon's user, over the unix socket: it would run as that user.
. "$(dirname "$0")/lib.sh"
need jq setpriv
need_root

chmod 0755 "$TEST_DIR"
chmod o+x "$(dirname "$TEST_DIR")"
mkdir "$TEST_DIR/bin"
cp "$BIN/blobcachectl" "$BIN/blobcached" "$TEST_DIR/bin"
cp "$BIN/blobcached" "$TEST_DIR/other"
group=$(awk -F: '$3 > 0 && $3 < 65534 { print $1 ":" $3; exit }' /etc/group)
(umask 077 && echo "a-token-that-is-long-enough" >"$TEST_DIR/token")
write_config
sed -i "s#^listen = \\[\"unix:$GRPC_SOCKET\"\\]#&\nadmin_group = \"${group%:*}\"#" "$CONFIG"
sed -i "s#\"unix:$GRPC_SOCKET\"#&, \"tcp:127.0.0.1:0\"#" "$CONFIG"
BIN=$TEST_DIR/bin start_daemon --set "grpc.token_file=$TEST_DIR/token" --set 'log.level="info"'
chgrp "${group#*:}" "$GRPC_SOCKET"
own=$TEST_DIR/bin/blobcached

as_admin() { setpriv --reuid 50001 --regid "${group#*:}" --clear-groups "$TEST_DIR/bin/blobcachectl" "$@"; }
tcp=$(sed -n 's/.*grpc listens on \(tcp:127\.0\.0\.1:[0-9]*\).*/\1/p' "$DAEMON_LOG")
with_token() { ctl --endpoint "$tcp" --token-file "$TEST_DIR/token" "$@"; }

for who in as_admin with_token; do
  "$who" status >/dev/null || fail "$who does not administer"
  for program in "$TEST_DIR/other" /bin/true /proc/self/exe; do
    expect_fail 1 "$program: only root and the user that blobcached runs as may name a program" \
      "$who" upgrade --binary "$program"
  done
  "$who" upgrade >/dev/null || fail "$who: to the program that is installed"
  "$who" upgrade --binary "$own" >/dev/null || fail "$who: to the same by its name"
done

# runs PROGRAM: the daemon is that file.
runs() { expect_equal "$1" "$(readlink "/proc/$DAEMON_PID/exe")" "the daemon's program"; }
runs "$own"
ctl upgrade --binary "$TEST_DIR/other" >/dev/null || fail "root names no program"
runs "$TEST_DIR/other"
# What /proc has is taken for the file that it is, which stays when the process is another.
ctl upgrade --binary "/proc/$DAEMON_PID/exe" >/dev/null || fail "a path beneath /proc"
ctl upgrade --binary /proc/self/exe >/dev/null || fail "a path beneath /proc/self"
grep -q "upgrade: to $TEST_DIR/other\$" "$DAEMON_LOG" || fail "the log does not name the program"
if grep -q 'upgrade: to /proc' "$DAEMON_LOG"; then fail "a path beneath /proc was kept"; fi
cp "$BIN/blobcached" "$TEST_DIR/next"
mv "$TEST_DIR/next" "$TEST_DIR/other"
expect_fail 1 'No such file' ctl upgrade --binary /proc/self/exe
ctl upgrade >/dev/null || fail "to what was installed over it"
runs "$TEST_DIR/other"
stop_daemon
