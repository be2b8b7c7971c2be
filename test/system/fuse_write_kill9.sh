#!/bin/bash
# What was written to files/ is there after a kill of the daemon, whether or not it was synced or had settled.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
need_fuse
need_root

start_daemon
mount_at "$MNT"
make_random "$TEST_DIR/base" 9000001
cp "$TEST_DIR/base" "$MNT/files/base"

for round in $(seq 6); do
  in=$TEST_DIR/in.$round
  mkdir -p "$in"
  out=$MNT/files/round$round
  mkdir -p "$out/deep"
  # New ones, of which some have rested long enough to have settled, some not.
  for i in $(seq 40); do
    make_random "$in/$i" $((i * i * 997)) "$round.$i"
    cp "$in/$i" "$out/deep/$i"
  done
  # A large one that is changed in its middle, a rename over a name, a link, a removal.
  printf 'round %d' "$round" | tee >(dd of="$TEST_DIR/base" bs=1 seek=$((round * 1000003)) conv=notrunc status=none) |
    dd of="$MNT/files/base" bs=1 seek=$((round * 1000003)) conv=notrunc status=none
  cp "$in/7" "$out/new"
  mv "$out/new" "$out/deep/8"
  ln "$out/deep/9" "$out/nine"
  rm "$out/deep/10"
  touch -d '2003-03-03 03:03:03' "$out/deep/11"
  ((round % 2)) || sleep 2.5
  kill_daemon
  start_daemon
  mount_at "$MNT"
  for i in $(seq 40); do
    case $i in
      8) expect_same "$in/7" "$out/deep/8" "round $round: what was renamed over another" ;;
      10) [[ ! -e $out/deep/10 ]] || fail "round $round: what was removed is there" ;;
      *) expect_same "$in/$i" "$out/deep/$i" "round $round: file $i" ;;
    esac
  done
  expect_same "$in/9" "$out/nine" "round $round: the second name"
  expect_equal 2 "$(stat -c %h "$out/nine")" "round $round: its links"
  expect_equal 2003-03-03 "$(date -d "@$(stat -c %Y "$out/deep/11")" +%F)" "round $round: its time"
  expect_same "$TEST_DIR/base" "$MNT/files/base" "round $round: the large file"
done

# All of it settles in the end, and nothing is left of what it was written to.
all_settled() { [[ -z $(ls -A "$STORE/writing") ]]; }
wait_until 60 all_settled || fail "not everything settled: $(find "$STORE/writing" -type f | wc -l) files left"
ctl scrub || fail "scrub"
expect_same "$TEST_DIR/base" "$MNT/files/base" "the large file, settled"
unmount_at "$MNT"
stop_daemon
