# shellcheck shell=bash
# What the tests of HTTP origins share: an nginx of their own, certificates, a server with faults. Sourced after lib.sh.
#
#   WWW          what nginx serves: at /, as JSON listings at /json/, without listings at /unlisted/
#   PORT, TLS_PORT   where; ACCESS is its log, a line a request: "request" "range" status bytes "authorization"
#   FAULT_PORT, FAULT_LOG    of start_faults

# shellcheck disable=SC2034  # for tests
FAULT_PORT=
FAULT_LOG=
ACCESS=$TEST_DIR/access.log
NGINX_PID=
PORT=
TLS_PORT=

free_ports() {
  python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))'
}

# make_certificate: ca.pem, and server.pem with server.key for localhost and 127.0.0.1.
make_certificate() {
  (
    cd "$TEST_DIR"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
      -out server.pem
  ) >"$TEST_DIR/openssl.log" 2>&1 || fail "no certificate: $(tail -n 3 "$TEST_DIR/openssl.log")"
}

nginx_answers() { curl -fsS -o /dev/null "http://127.0.0.1:$PORT/" 2>/dev/null; }
nginx_answers_or_gone() { nginx_answers || process_is_gone "$NGINX_PID"; }

# start_nginx: serves $WWW, on the same ports when it is started again.
start_nginx() {
  local try
  for try in 1 2 3; do
    [[ $PORT && $try == 1 ]] || read -r PORT TLS_PORT < <(free_ports)
    write_nginx_config
    in_background nginx -p "$TEST_DIR/" -c "$TEST_DIR/nginx.conf" -e "$TEST_DIR/nginx.log"
    NGINX_PID=$BACKGROUND_PID
    wait_until 20 nginx_answers_or_gone || fail "nginx does not answer"
    if nginx_answers; then return; fi
  done
  fail "nginx does not start: $(tail -n 3 "$TEST_DIR/nginx.log")"
}

write_nginx_config() {
  local user=
  if [[ $(id -u) == 0 ]]; then user='user root;'; fi
  cat >"$TEST_DIR/nginx.conf" <<NGINX
$user
daemon off;
master_process off;
pid $TEST_DIR/nginx.pid;
worker_rlimit_nofile 1024;
events { worker_connections 256; }
http {
  log_format ranges '"\$request" "\$http_range" \$status \$body_bytes_sent "\$http_authorization"';
  access_log $ACCESS ranges;
  client_body_temp_path $TEST_DIR/nginx.tmp;
  proxy_temp_path $TEST_DIR/nginx.tmp;
  fastcgi_temp_path $TEST_DIR/nginx.tmp;
  uwsgi_temp_path $TEST_DIR/nginx.tmp;
  scgi_temp_path $TEST_DIR/nginx.tmp;
  gzip on;
  gzip_types *;
  server {
    listen 127.0.0.1:$PORT;
    listen 127.0.0.1:$TLS_PORT ssl http2;
    ssl_certificate $TEST_DIR/server.pem;
    ssl_certificate_key $TEST_DIR/server.key;
    root $WWW;
    autoindex on;
    location /json/ { alias $WWW/; autoindex_format json; }
    location /unlisted/ { alias $WWW/; autoindex off; }
    location /secret/ {
      alias $WWW/;
      if (\$http_authorization != "Bearer sesame-1234") { return 403; }
    }
  }
}
NGINX
}

# kill_nginx: SIGKILL, as if the machine had crashed.
kill_nginx() {
  {
    end_process "$NGINX_PID" KILL 10 || true
    wait "$NGINX_PID" || true
  } 2>/dev/null
}

# http_origin NAME URL [LINE...]: adds it to the configuration.
http_origin() {
  {
    printf '\n[[origin]]\nname = "%s"\ntype = "http"\nurl = "%s"\n' "$1" "$2"
    shift 2
    (($# == 0)) || printf '%s\n' "$@"
  } >>"$CONFIG"
}

# start_faults [CERTIFICATE KEY]: http_faults.py on $WWW; sets FAULT_PORT and FAULT_LOG.
start_faults() {
  FAULTS=$((${FAULTS:-0} + 1))
  FAULT_LOG=$TEST_DIR/faults.$FAULTS.log
  : >"$FAULT_LOG"
  in_background python3 "$LIB_DIR/http_faults.py" "$WWW" "$TEST_DIR/mode" "$FAULT_LOG" "$@" >"$TEST_DIR/port.$FAULTS"
  wait_until 20 test -s "$TEST_DIR/port.$FAULTS" || fail "the server with faults does not start"
  # shellcheck disable=SC2034  # for tests
  FAULT_PORT=$(cat "$TEST_DIR/port.$FAULTS")
}

# fault WORDS...: what the servers do from now on; "ok" for what is right.
fault() { echo "$*" >"$TEST_DIR/mode.new" && mv "$TEST_DIR/mode.new" "$TEST_DIR/mode"; }

# within SECONDS CMD...: CMD takes no longer; its status is CMD's.
within() {
  local limit=$1 before=$SECONDS status=0
  shift
  "$@" || status=$?
  ((SECONDS - before <= limit)) || fail "took $((SECONDS - before)) seconds, more than $limit: $*"
  return "$status"
}

# find_s3rver: sets S3RVER, the program's script; installs it for this test where npm can.
find_s3rver() {
  if [[ -z ${S3RVER:-} ]]; then
    need npm
    timeout 80 npm install --prefix "$TEST_DIR/npm" --cache "$TEST_DIR/npm.cache" --no-audit --no-fund s3rver \
      >"$TEST_DIR/npm.log" 2>&1 || skip "needs npm's s3rver, which cannot be installed"
    S3RVER=$TEST_DIR/npm/node_modules/s3rver/bin/s3rver.js
  fi
  [[ -e $S3RVER ]] || skip "needs npm's s3rver"
}
