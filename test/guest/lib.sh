# shellcheck shell=bash
# What every guest test shares: it builds a small machine (Debian's cloud kernel, busybox, the project's programs) and
# boots it by software emulation, so that drivers which this machine does not have can be tested as root of another.
# Use: the first command of a test is  . "$(dirname "$0")/lib.sh"   (README.md beside this file has the rest).
. "$(dirname "${BASH_SOURCE[0]}")/../system/lib.sh"

GUEST_DIR=$SOURCE_DIR/test/guest
GUEST_ROOT=$TEST_DIR/root # what the guest's root will be; tests put files into it
CONSOLE=$TEST_DIR/console

# need_guest: skips where a guest cannot be had.
need_guest() {
  [[ $(uname -m) == x86_64 ]] || skip "needs x86-64"
  need qemu-system-x86_64 busybox ldd flock xz
  GUEST_KERNEL_DIR=$("$SOURCE_DIR/tools/guest-kernel" "${GUEST_CACHE:-$(dirname "$BIN")/guest}" 2>"$TEST_DIR/why") ||
    skip "needs Debian's cloud kernel ($(tail -n 1 "$TEST_DIR/why"))"
}

# ------------------------------------------------------------------------------------------- its root

# guest_program PROGRAM...: with the libraries that it needs, at the same places.
guest_program() {
  local program path library
  for program in "$@"; do
    path=$(command -v "$program") || fail "no $program"
    install -D -m 755 "$path" "$GUEST_ROOT/bin/$(basename "$path")"
    while read -r library; do
      [[ -e $GUEST_ROOT$library ]] || install -D -m 755 "$library" "$GUEST_ROOT$library"
    done < <(ldd "$path" 2>/dev/null | grep -o '/[^ ]*')
  done
}

# guest_module NAME...: kernel modules and what they depend on, in the order in which `load` inserts them. A module that
# the kernel has built in, or has not at all, is left out.
guest_module() {
  local name file needed
  mkdir -p "$GUEST_ROOT/modules"
  for name in "$@"; do
    [[ ! -e $GUEST_ROOT/modules/$name.ko ]] || continue
    file=$(find "$GUEST_KERNEL_DIR" -name "${name//_/[-_]}.ko*" | head -n 1)
    [[ $file ]] || continue
    if [[ $file == *.xz ]]; then xz -dc "$file"; else cat "$file"; fi >"$GUEST_ROOT/modules/$name.ko"
    # The first four bytes of each string of the module's description come after a NUL.
    needed=$(tr '\0' '\n' <"$GUEST_ROOT/modules/$name.ko" | sed -n 's/^depends=//p' | tr ',-' ' _')
    # shellcheck disable=SC2086  # a list of names
    guest_module $needed
    echo "$name $needed" >>"$GUEST_ROOT/modules/depends"
  done
}

# guest_root: the root that every guest has.
guest_root() {
  mkdir -p "$GUEST_ROOT"/{bin,dev,etc,mnt,proc,run,sys,tmp,var}
  install -m 755 "$GUEST_DIR/inside/init" "$GUEST_ROOT/init"
  install -m 644 "$GUEST_DIR/inside/lib.sh" "$GUEST_ROOT/lib.sh"
  guest_program busybox "$BIN/blobcached" "$BIN/blobcachectl"
}

# guest_image: /data/image in the guest is an ext4 of 24 MiB, with the tree whose digests are in /data/tree (./big is
# its largest file), and /data/odd a file that ends in the middle of a sector.
guest_image() {
  local tree=$TEST_DIR/tree i
  PATH=$PATH:/sbin:/usr/sbin
  need mkfs.ext4 e2fsck
  mkdir -p "$tree/deep/er" "$GUEST_ROOT/data"
  make_random "$tree/big" 9M
  make_random "$tree/deep/er/small" 100
  for i in {1..50}; do make_random "$tree/deep/$i" $((i * 777)); done
  mkfs.ext4 -q -b 4096 -d "$tree" "$GUEST_ROOT/data/image" 24M >"$TEST_DIR/mkfs" 2>&1 || fail "$(cat "$TEST_DIR/mkfs")"
  (cd "$tree" && find . -type f -exec sha256sum {} + | sort -k 2) >"$GUEST_ROOT/data/tree"
  make_random "$GUEST_ROOT/data/odd" 70001
}

# ------------------------------------------------------------------------------------------ its life

# guest_run SCRIPT: boots the guest, which runs SCRIPT (by busybox' sh) and is switched off. Fails unless the script
# succeeds; what it prints is in $CONSOLE.
guest_run() {
  install -m 644 "$1" "$GUEST_ROOT/test.sh"
  (cd "$GUEST_ROOT" && find . | busybox cpio -o -H newc 2>/dev/null) >"$TEST_DIR/initramfs"
  local status=0
  qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults -no-user-config -display none \
    -no-reboot -serial "file:$CONSOLE" -kernel "$GUEST_KERNEL_DIR"/boot/vmlinuz-* -initrd "$TEST_DIR/initramfs" \
    -append 'console=ttyS0 quiet panic=-1 hung_task_panic=0' >"$TEST_DIR/qemu" 2>&1 </dev/null || status=$?
  if ((status != 0)); then
    cat "$TEST_DIR/qemu" >&2
    fail "qemu ended with status $status"
  fi
  if ! grep -q '^guest: passed' "$CONSOLE"; then
    tail -n 60 "$CONSOLE" >&2
    fail "the guest's test failed"
  fi
  sed -n 's/^guest: /  /p' "$CONSOLE"
}
