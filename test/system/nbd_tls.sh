#!/bin/bash
# NBD over TLS, with certificates and with shared keys: the clients that people use come in, read right, and those
# that should not be let in are not.
. "$(dirname "$0")/lib.sh"
need jq nbdinfo nbdcopy qemu-img openssl cmp script

keys=$TEST_DIR/keys
mkdir -m 700 "$keys" "$TEST_DIR/stranger"
# authority FOLDER: a certificate authority.
authority() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=test authority" -keyout "$1/ca-key.pem" \
    -out "$1/ca-cert.pem" 2>/dev/null
}
# certify FOLDER NAME COMMON-NAME: FOLDER/NAME-key.pem and FOLDER/NAME-cert.pem, signed by FOLDER's authority.
certify() {
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$3" -keyout "$1/$2-key.pem" -out "$1/$2.csr" 2>/dev/null
  openssl x509 -req -in "$1/$2.csr" -CA "$1/ca-cert.pem" -CAkey "$1/ca-key.pem" -CAcreateserial -days 30 \
    -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$1/$2-cert.pem" 2>/dev/null
}
authority "$keys"
certify "$keys" server localhost
certify "$keys" client alice
authority "$TEST_DIR/stranger"
certify "$TEST_DIR/stranger" client mallory
cp "$keys/ca-cert.pem" "$TEST_DIR/stranger/ca-cert.pem"
mkdir -m 700 "$TEST_DIR/anonymous"
cp "$keys/ca-cert.pem" "$TEST_DIR/anonymous/"
psk=$TEST_DIR/keys.psk
(umask 077; echo "alice:$(openssl rand -hex 32)" >"$psk"; echo "alice:$(openssl rand -hex 32)" >"$TEST_DIR/wrong.psk")

make_random "$TEST_DIR/disk.img" 20M

# begin OPTION...: a daemon on a free port of the loopback, which $port then is.
begin() {
  start_daemon --set 'nbd.listen=["tcp:127.0.0.1:0"]' "$@"
  port=$(ctl --json exports | jq -r '.listeners[0]' | sed 's/.*://')
}
certs() { echo "nbds://localhost:$port/files/disk.img?tls-certificates=$1"; }
shared() { echo "nbds://alice@localhost:$port/files/disk.img?tls-psk-file=$1"; }
clear_uri() { echo "nbd://localhost:$port/files/disk.img"; }

begin --set nbd.tls=require --set "nbd.tls_certificates=$keys" --set nbd.tls_verify_clients=true
ctl put "$TEST_DIR/disk.img" --name disk.img >/dev/null

# By certificate: what is there, all of it, over several connections, and through qemu.
nbdinfo --json --no-content "$(certs "$keys")" >"$TEST_DIR/info.json"
expect_equal true "$(jq .TLS "$TEST_DIR/info.json")" "nbdinfo's TLS"
expect_equal "$((20 << 20))" "$(jq '.exports[0]."export-size"' "$TEST_DIR/info.json")" "the size"
for connections in 1 4; do
  nbdcopy --connections="$connections" "$(certs "$keys")" "$TEST_DIR/copy"
  expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy over TLS, $connections connections"
done
nbdcopy --requests=64 --request-size=$((8 << 20)) "$(certs "$keys")" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy over TLS, large requests"
qemu=(--object "tls-creds-x509,id=tls0,dir=$keys,endpoint=client"
  --image-opts "driver=nbd,host=localhost,port=$port,export=files/disk.img,tls-creds=tls0")
qemu-img convert -O raw "${qemu[@]}" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "qemu-img convert over TLS"

# Renewed certificates are taken at a reload; what is no certificate leaves the old one in use.
cp -r "$keys" "$TEST_DIR/old"
rm -r "${keys:?}"/*
authority "$keys"
certify "$keys" server localhost
certify "$keys" client somebody
expect_fail any '' nbdinfo --size "$(certs "$keys")"
kill -HUP "$DAEMON_PID"
wait_for_log 'reload: nbd\.tls: certificates and keys were read again'
nbdinfo --size "$(certs "$keys")" >/dev/null
expect_fail any '' nbdinfo --size "$(certs "$TEST_DIR/old")"
mv "$keys/server-key.pem" "$TEST_DIR/key"
kill -HUP "$DAEMON_PID"
wait_for_log 'reload: nbd\.tls: .*server-key.pem: No such file.*stays in use'
nbdinfo --size "$(certs "$keys")" >/dev/null
mv "$TEST_DIR/key" "$keys/server-key.pem"
cp "$keys/ca-cert.pem" "$TEST_DIR/stranger/ca-cert.pem"
cp "$keys/ca-cert.pem" "$TEST_DIR/anonymous/"

# In clear, without a certificate, and with one of another authority: nobody comes in, and the daemon lives.
expect_fail any '' nbdinfo --size "$(clear_uri)"
expect_fail any '' nbdinfo --size "$(certs "$TEST_DIR/anonymous")"
expect_fail any '' nbdinfo --size "$(certs "$TEST_DIR/stranger")"
expect_fail any '' nbdinfo --size "$(shared "$psk")"
# Old clients that cannot be told are cut; so is one that speaks on in clear, and one that talks nonsense.
printf '\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0' | timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; cat >&3; cat <&3" \
  >"$TEST_DIR/out" || true
expect_equal 18 "$(stat -c %s "$TEST_DIR/out")" "the greeting and no more"
printf '\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0IHAVEOPT\0\0\0\3\0\0\0\0' |
  timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; cat >&3; cat <&3" >"$TEST_DIR/out" || true
expect_equal 38 "$(stat -c %s "$TEST_DIR/out")" "no answer to what came in clear after STARTTLS"
expect_equal "$((20 << 20))" "$(nbdinfo --size "$(certs "$keys")")" "the size, afterwards"
stop_daemon

# By shared key; both ways at once; and in clear where that is allowed.
begin --set nbd.tls=require --set "nbd.tls_psk=$psk"
nbdcopy "$(shared "$psk")" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy with a shared key"
expect_fail any '' nbdinfo --size "$(shared "$TEST_DIR/wrong.psk")"
expect_fail any '' nbdinfo --size "$(clear_uri)"
stop_daemon
begin --set nbd.tls=allow --set "nbd.tls_psk=$psk" --set "nbd.tls_certificates=$keys"
for uri in "$(shared "$psk")" "$(certs "$TEST_DIR/anonymous")" "$(clear_uri)"; do
  expect_equal "$((20 << 20))" "$(nbdinfo --size "$uri")" "the size through $uri"
done
stop_daemon
begin
expect_fail any '' nbdinfo --size "$(certs "$keys")"
stop_daemon

# What cannot serve is refused at the start, by name.
chmod 644 "$psk"
expect_fail 1 'keys.psk: others may read it' daemon_once --set nbd.tls=require --set "nbd.tls_psk=$psk"
chmod 600 "$psk"
echo "bob:abc" >>"$psk"
expect_fail 1 'keys.psk: line 2: the key is not in hexadecimal digits' \
  daemon_once --set nbd.tls=require --set "nbd.tls_psk=$psk"
expect_fail 1 'server-cert.pem: No such file' \
  daemon_once --set nbd.tls=require --set "nbd.tls_certificates=$TEST_DIR/anonymous"
cp "$keys/server-cert.pem" "$TEST_DIR/stranger/"
cp "$TEST_DIR/stranger/client-key.pem" "$TEST_DIR/stranger/server-key.pem"
expect_fail 1 'server-key.pem: is not the key of server-cert.pem' \
  daemon_once --set nbd.tls=require --set "nbd.tls_certificates=$TEST_DIR/stranger"
# The check of a configuration says so, too.
checked() { "$BIN/blobcached" --config "$CONFIG" --check --set nbd.tls=require "$@"; }
checked --set "nbd.tls_certificates=$keys" | grep -q OK || fail "--check of what serves"
expect_fail 1 'nbd.tls: .*server-key.pem: is not the key' checked --set "nbd.tls_certificates=$TEST_DIR/stranger"
expect_fail 1 'nbd.tls: .*none.psk: No such file' checked --set "nbd.tls_psk=$TEST_DIR/none.psk"
# Nobody is asked for a passphrase, also where there is a terminal.
openssl rsa -aes128 -passout pass:secret -in "$keys/server-key.pem" -out "$TEST_DIR/stranger/server-key.pem" 2>/dev/null
on_a_terminal() {
  script -qec "'$BIN/blobcached' --config '$CONFIG' --check --set nbd.tls=require \
    --set 'nbd.tls_certificates=$TEST_DIR/stranger'" /dev/null >&2
}
expect_fail 1 'server-key.pem: is encrypted' timeout 20 bash -c "$(declare -f on_a_terminal)
  BIN='$BIN' CONFIG='$CONFIG' TEST_DIR='$TEST_DIR'; on_a_terminal"
echo nonsense >"$TEST_DIR/stranger/server-cert.pem"
expect_fail 1 'server-cert.pem: holds nothing in PEM' checked --set "nbd.tls_certificates=$TEST_DIR/stranger"
