// Random operations on one file, from several processes by turns, each compared with a model in memory.
// Usage: file_model DIR SEED STEPS MAX_SIZE PROCESSES [PAUSES] [MODEL]
//   PAUSES  1: sleeps now and then, so that the file settles in between
//   MODEL   a file that the model is mapped to, so that it outlives this process; with it a failed call (the mount
//           was taken away) ends the run with status 3, and the next run begins by comparing.
// Prints the seed and the last steps where something differs, and ends with status 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kHandles = 4, kHistory = 40, kLine = 120 };

struct Shared {
  long size;        // of the file, as the model has it
  long step;        // that comes next
  long pending;     // a change began that was not answered: both states are right
  long old_size;    // before it
  long pend_from, pend_to;
  unsigned long random;
  unsigned next_line;
  char lines[kHistory][kLine];
  unsigned char bytes[];  // the model, and behind it what was before the pending change
};

static struct Shared* shared;
static long max_size;
static unsigned char *before, *buffer;
static char path[4096], other[4096], extra[4096];
static unsigned long seed;
static int handle[kHandles], flags_of[kHandles];
static int survive;

static unsigned long draw(unsigned long n) {
  shared->random ^= shared->random << 13;
  shared->random ^= shared->random >> 7;
  shared->random ^= shared->random << 17;
  return (shared->random * 0x2545F4914F6CDD1DUL >> 16) % n;
}

static void __attribute__((format(printf, 1, 2))) note(const char* format, ...) {
  va_list list;
  va_start(list, format);
  char* line = shared->lines[shared->next_line++ % kHistory];
  int n = snprintf(line, kLine, "%ld[%d] ", shared->step, (int)getpid() % 10000);
  vsnprintf(line + n, kLine - n, format, list);
  va_end(list);
}

static void __attribute__((format(printf, 1, 2), noreturn)) wrong(const char* format, ...) {
  va_list list;
  va_start(list, format);
  printf("seed %lu, step %ld: ", seed, shared->step);
  vprintf(format, list);
  printf("\n");
  for (unsigned i = 0; i < kHistory; ++i) {
    const char* line = shared->lines[(shared->next_line + i) % kHistory];
    if (line[0]) printf("  %s\n", line);
  }
  fflush(stdout);
  _exit(1);
}

// A call failed. Where the mount is taken away on purpose, that ends the run; else it is wrong.
static void __attribute__((noreturn)) failed(const char* what) {
  int error = errno;
  if (survive && (error == ENOTCONN || error == ECONNABORTED || error == EIO || error == ENOENT || error == EBADF ||
                  error == EINTR || error == ENODEV)) {
    printf("seed %lu, step %ld: %s: %s (expected when killed)\n", seed, shared->step, what, strerror(error));
    fflush(stdout);
    _exit(3);
  }
  wrong("%s: %s", what, strerror(error));
}

static void open_handle(int i, int flags) {
  if (handle[i] >= 0 && close(handle[i])) failed("close");
  handle[i] = open(path, flags, 0644);
  flags_of[i] = flags;
  if (handle[i] < 0) failed("open");
}

// The model changes from `from` to `to` (and in size): keep what was, until it is answered.
static void begin(long from, long to) {
  if (!survive) return;
  shared->old_size = shared->size;
  shared->pend_from = from;
  shared->pend_to = to;
  if (to > from) memcpy(before + from, shared->bytes + from, to - from);
  __sync_synchronize();
  shared->pending = 1;
  __sync_synchronize();
}
static void answered(void) {
  __sync_synchronize();
  shared->pending = 0;
}

static void model_size(long size) {
  if (size < shared->size) memset(shared->bytes + size, 0, shared->size - size);
  shared->size = size;
}

static void compare_range(const unsigned char* got, long from, long length, const char* what) {
  if (memcmp(got, shared->bytes + from, length) == 0) return;
  long i = 0;
  while (got[i] == shared->bytes[from + i]) ++i;
  long last = length - 1;
  while (got[last] == shared->bytes[from + last]) --last;
  wrong("%s differs at %ld..%ld (got %02x, want %02x; read %ld+%ld, size %ld)", what, from + i, from + last, got[i],
        shared->bytes[from + i], from, length, shared->size);
}

static void check_all(const char* what) {
  struct stat st;
  int fd = open(path, O_RDONLY);
  if (fd < 0) failed("open to compare");
  if (fstat(fd, &st)) failed("fstat");
  if (st.st_size != shared->size) wrong("%s: size is %ld, want %ld", what, (long)st.st_size, shared->size);
  long at = 0;
  for (;;) {
    ssize_t n = pread(fd, buffer + at, max_size + 4096 - at, at);
    if (n < 0) failed("pread to compare");
    if (n == 0) break;
    at += n;
  }
  if (at != shared->size) wrong("%s: %ld bytes can be read, want %ld", what, at, shared->size);
  compare_range(buffer, 0, at, what);
  close(fd);
}

// The first comparison after a kill: what was pending is there, or not, by pages of what was written.
static void check_after_kill(void) {
  int fd = open(path, O_RDONLY);
  struct stat st;
  if (fd < 0) wrong("after the kill: open: %s", strerror(errno));
  if (fstat(fd, &st)) wrong("after the kill: fstat");
  ssize_t n = 0, at = 0;
  while ((n = pread(fd, buffer + at, max_size + 4096 - at, at)) > 0) at += n;
  if (n < 0) wrong("after the kill: pread: %s", strerror(errno));
  close(fd);
  if (!shared->pending) {
    if (st.st_size != shared->size || at != shared->size)
      wrong("after the kill: size %ld, read %ld, want %ld", (long)st.st_size, (long)at, shared->size);
    compare_range(buffer, 0, shared->size, "after the kill");
    return;
  }
  long low = shared->size < shared->old_size ? shared->size : shared->old_size;
  long high = shared->size > shared->old_size ? shared->size : shared->old_size;
  if (st.st_size < low || st.st_size > high || at != st.st_size)
    wrong("after the kill, in a change: size %ld, read %ld, want %ld or %ld", (long)st.st_size, (long)at,
          shared->old_size, shared->size);
  for (long i = 0; i < at; ++i) {
    int is_new = buffer[i] == shared->bytes[i];
    int is_old = i >= shared->pend_from && i < shared->pend_to && buffer[i] == before[i];
    int is_zero = buffer[i] == 0 && i >= low;
    if (!is_new && !is_old && !is_zero)
      wrong("after the kill, in a change: byte %ld is %02x, was %02x, would be %02x (change of %ld..%ld)", i, buffer[i],
            before[i], shared->bytes[i], shared->pend_from, shared->pend_to);
  }
  // What is there is what is right from now on.
  memset(shared->bytes, 0, max_size);
  memcpy(shared->bytes, buffer, at);
  shared->size = at;
  answered();
}

static long some_offset(long limit) {
  unsigned long kind = draw(8);
  if (limit <= 0) return 0;
  if (kind == 0) return draw(limit) & ~4095L;
  if (kind == 1) return shared->size < limit ? shared->size : limit - 1;
  if (kind == 2) return 0;
  return draw(limit);
}
static long some_length(void) {
  unsigned long kind = draw(10);
  if (kind < 3) return 1 + draw(100);
  if (kind < 5) return 4096 * (1 + draw(8));
  if (kind < 9) return 1 + draw(max_size / 8);
  return 1 + draw(max_size);
}

static void write_model(long at, const unsigned char* from, long length) {
  if (at > shared->size) memset(shared->bytes + shared->size, 0, at - shared->size);
  memcpy(shared->bytes + at, from, length);
  if (at + length > shared->size) shared->size = at + length;
}

static void do_write(int i) {
  long at = some_offset(max_size), length = some_length();
  int append = flags_of[i] & O_APPEND, direct = flags_of[i] & O_DIRECT;
  if (append) at = shared->size;
  if (direct) at &= ~4095L, length = (length + 4095) & ~4095L;
  if (at + length > max_size) length = max_size - at;
  if (direct) length &= ~4095L;
  if (length <= 0 || (append && direct && at % 4096)) return;
  if (direct && append) return;
  unsigned char fill = 1 + draw(255);
  for (long k = 0; k < length; ++k) buffer[k] = fill + (k >> 9) * 7 + (k & 31);
  note("write %ld+%ld%s%s", at, length, append ? " append" : "", direct ? " direct" : "");
  begin(at < shared->size ? at : shared->size, at + length);
  long was = shared->size;
  write_model(at, buffer, length);
  ssize_t n;
  if (append) {
    n = write(handle[i], buffer, length);
  } else if (draw(4) == 0) {
    long half = draw(length + 1);
    struct iovec parts[2] = {{buffer, half}, {buffer + half, length - half}};
    n = pwritev(handle[i], parts, 2, at);
  } else {
    n = pwrite(handle[i], buffer, length, at);
  }
  if (n < 0) failed("write");
  if (n != length && survive) errno = EIO, failed("a short write");
  if (n != length) wrong("a write of %ld at %ld wrote %ld (size was %ld)", length, at, (long)n, was);
  answered();
}

static void do_read(int i) {
  long at = some_offset(max_size + 8192), length = some_length();
  if (flags_of[i] & O_DIRECT) at &= ~4095L, length = (length + 4095) & ~4095L;
  if (length > max_size + 4096) length = max_size + 4096;
  note("read %ld+%ld", at, length);
  ssize_t n = pread(handle[i], buffer, length, at);
  if (n < 0) failed("pread");
  long want = shared->size > at ? shared->size - at : 0;
  if (want > length) want = length;
  if (n != want) wrong("a read of %ld at %ld gave %ld, want %ld (size %ld)", length, at, (long)n, want, shared->size);
  compare_range(buffer, at, n, flags_of[i] & O_DIRECT ? "a direct read" : "a read");
}

static void do_truncate(int i) {
  long to = draw(3) ? some_offset(max_size) : (long)draw(10000);
  if (to > max_size) to = max_size;
  note("truncate %ld (was %ld)", to, shared->size);
  long low = to < shared->size ? to : shared->size, high = to < shared->size ? shared->size : to;
  begin(low, high);
  model_size(to);
  if (draw(2) ? ftruncate(handle[i], to) : truncate(path, to)) failed("truncate");
  answered();
}

static void do_map(int i) {
  long at = some_offset(shared->size) & ~4095L, length = some_length();
  if (flags_of[i] & O_APPEND || shared->size == 0 || at >= shared->size) return;
  if (at + length > shared->size) length = shared->size - at;
  unsigned char* map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, handle[i], at);
  if (map == MAP_FAILED) {
    if (flags_of[i] & O_DIRECT) return;
    failed("mmap");
  }
  note("map %ld+%ld", at, length);
  if (!survive || draw(2)) {
    if (!survive) compare_range(map, at, length, "a mapping");
    long skip = draw(length), n = 1 + draw(length - skip);
    unsigned char fill = 1 + draw(255);
    note("store %ld+%ld", at + skip, n);
    if (!survive) {
      memset(map + skip, fill, n);
      memset(shared->bytes + at + skip, fill, n);
      int how = draw(3);
      if (how == 0 && msync(map, length, MS_SYNC)) failed("msync");
    }
  }
  munmap(map, length);
}

static void do_fallocate(int i) {
  long at = some_offset(max_size), length = some_length();
  if (at + length > max_size) length = max_size - at;
  if (length <= 0) return;
  int mode = 0, error = 0;
  long end = at + length, old = shared->size;
  switch (draw(6)) {
    case 0: mode = 0; break;
    case 1:
    case 2: mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; break;
    case 3: mode = FALLOC_FL_ZERO_RANGE; break;
    case 4: mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; break;
    default:
      mode = draw(2) ? FALLOC_FL_KEEP_SIZE : draw(2) ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE;
      at |= 1;  // which is an error where such a mode is known, too
      length |= 1;
      error = EOPNOTSUPP;
  }
  note("fallocate mode %d %ld+%ld (size %ld)", mode, at, length, old);
  begin(at < old ? at : old, end);
  if (!error) {
    int zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
    long stop = end < old ? end : old;
    if (zeroes && stop > at) memset(shared->bytes + at, 0, stop - at);
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > old) model_size(end);
  }
  int got = fallocate(handle[i], mode, at, length) ? errno : 0;
  if (got && survive && got != error && got != EOPNOTSUPP) errno = got, failed("fallocate");
  if (got != error && !(error && (mode == FALLOC_FL_KEEP_SIZE ? got == 0 : got == EINVAL)))
    wrong("fallocate mode %d %ld+%ld: %s, want %s", mode, at, length, strerror(got), strerror(error));
  answered();
}

// Holes are allowed to be told as data, never data as a hole.
static void do_seek(int i) {
  if (shared->size == 0) return;
  long at = draw(shared->size);
  note("seek from %ld", at);
  long data = lseek(handle[i], at, SEEK_DATA);
  if (data < 0 && errno != ENXIO) failed("SEEK_DATA");
  long end = data < 0 ? shared->size : data;
  if (end < at || end > shared->size) wrong("SEEK_DATA from %ld gave %ld (size %ld)", at, data, shared->size);
  for (long k = at; k < end; ++k)
    if (shared->bytes[k]) wrong("SEEK_DATA from %ld gave %ld, but there is data at %ld (size %ld)", at, data, k, shared->size);
  long hole = lseek(handle[i], at, SEEK_HOLE);
  if (hole < 0 && survive) failed("SEEK_HOLE");
  if (hole < at || hole > shared->size) wrong("SEEK_HOLE from %ld gave %ld (size %ld)", at, hole, shared->size);
  if (hole < shared->size && shared->bytes[hole]) wrong("SEEK_HOLE from %ld gave %ld, where there is data", at, hole);
}

static void do_copy_range(int i, int k) {
  long from = some_offset(shared->size), length = some_length(), to = some_offset(max_size);
  if ((flags_of[i] | flags_of[k]) & O_APPEND || shared->size == 0) return;
  if (from + length > shared->size) length = shared->size - from;
  if (to + length > max_size) length = max_size - to;
  if (length <= 0 || (from < to + length && to < from + length)) return;
  note("copy_file_range %ld+%ld to %ld", from, length, to);
  off_t in = from, out = to;
  begin(to < shared->size ? to : shared->size, to + length);
  ssize_t n = copy_file_range(handle[i], &in, handle[k], &out, length, 0);
  if (n < 0 && !survive && (errno == EOPNOTSUPP || errno == EXDEV || errno == EINVAL)) {
    answered();
    return;
  }
  if (n < 0) failed("copy_file_range");
  memcpy(buffer, shared->bytes + from, n);
  write_model(to, buffer, n);
  answered();
}

// Another file with the same bytes takes the name; or other names come and go.
static void do_names(void) {
  switch (draw(4)) {
    case 0: {
      note("rename over");
      int fd = open(other, O_CREAT | O_TRUNC | O_RDWR, 0600);
      if (fd < 0) failed("open another");
      for (long at = 0; at < shared->size;) {
        long part = shared->size - at < 100000 ? shared->size - at : 100000;
        if (pwrite(fd, shared->bytes + at, part, at) != part) failed("write another");
        at += part;
      }
      if (draw(2) && fsync(fd)) failed("fsync another");
      if (close(fd) || rename(other, path)) failed("rename over");
      for (int i = 0; i < kHandles; ++i) open_handle(i, flags_of[i] & ~O_TRUNC);
      break;
    }
    case 1:
      note("link, unlink");
      unlink(extra);
      if (link(path, extra)) failed("link");
      if (draw(2)) {
        if (rename(extra, path)) failed("rename to the same file");
      } else if (unlink(path) || rename(extra, path)) {
        failed("unlink and rename back");
      }
      break;
    case 2: {
      note("move away and back");
      if (rename(path, extra) || rename(extra, path)) failed("rename");
      break;
    }
    default: {
      note("chmod, utimens");
      struct timespec times[2] = {{1000000000 + draw(1000000), 5}, {1000000000 + draw(1000000), 7}};
      if (chmod(path, 0600 | draw(0100)) || utimensat(AT_FDCWD, path, times, 0)) failed("attributes");
      struct stat st;
      if (stat(path, &st)) failed("stat");
      if (st.st_mtim.tv_sec != times[1].tv_sec || st.st_mtim.tv_nsec != 7) wrong("the time was not set");
      if (st.st_size != shared->size) wrong("stat: size %ld, want %ld", (long)st.st_size, shared->size);
    }
  }
}

static int some_flags(void) {
  static const int kinds[] = {0, 0, 0, O_APPEND, O_DIRECT, O_SYNC, O_DSYNC};
  return O_RDWR | kinds[draw(sizeof kinds / sizeof kinds[0])];
}

// One process's turn.
static void turn(long steps, int pauses, long end) {
  for (int i = 0; i < kHandles; ++i) {
    handle[i] = -1;
    open_handle(i, some_flags());
  }
  for (; steps > 0 && shared->step < end; --steps, ++shared->step) {
    int i = draw(kHandles);
    switch (draw(20)) {
      case 0: case 1: case 2: case 3: case 4: do_write(i); break;
      case 5: case 6: case 7: do_read(i); break;
      case 8: case 9: do_truncate(i); break;
      case 10: case 11: do_map(i); break;
      case 12: case 13: do_fallocate(i); break;
      case 14: do_seek(i); break;
      case 15:
        note("reopen");
        open_handle(i, some_flags());
        break;
      case 16:
        note("fsync");
        if (draw(2) ? fsync(handle[i]) : fdatasync(handle[i])) failed("fsync");
        break;
      case 17: if (!survive) do_copy_range(i, draw(kHandles));
        break;
      case 18:
        if (!survive && draw(3) == 0) do_names();
        break;
      default: {
        check_all("the whole");
        if (pauses && draw(4) == 0) {
          note("pause");
          for (int k = 0; k < kHandles; ++k) close(handle[k]), handle[k] = -1;
          struct timespec wait = {0, (30 + draw(120)) * 1000000L};
          nanosleep(&wait, NULL);
          for (int k = 0; k < kHandles; ++k) open_handle(k, some_flags());
          if (draw(2)) check_all("after a pause");
        }
      }
    }
  }
  for (int i = 0; i < kHandles; ++i) close(handle[i]);
}

int main(int argc, char** argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: %s DIR SEED STEPS MAX_SIZE PROCESSES [PAUSES] [MODEL]\n", argv[0]);
    return 2;
  }
  seed = strtoul(argv[2], NULL, 10);
  long steps = atol(argv[3]);
  max_size = atol(argv[4]) & ~4095L;
  int processes = atoi(argv[5]), pauses = argc > 6 ? atoi(argv[6]) : 0;
  snprintf(path, sizeof path, "%s/f%lu", argv[1], seed);
  snprintf(other, sizeof other, "%s/o%lu", argv[1], seed);
  snprintf(extra, sizeof extra, "%s/x%lu", argv[1], seed);
  size_t room = sizeof *shared + 2 * (size_t)max_size + 65536;
  int fresh = 1;
  if (argc > 7) {
    survive = 1;
    int fd = open(argv[7], O_RDWR | O_CREAT, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return perror(argv[7]), 2;
    fresh = st.st_size == 0;
    if (ftruncate(fd, room)) return perror(argv[7]), 2;
    shared = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  } else {
    shared = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  }
  if (shared == MAP_FAILED || posix_memalign((void**)&buffer, 4096, 2 * max_size + 65536)) return perror("memory"), 2;
  before = shared->bytes + max_size;
  if (fresh) {
    shared->random = seed * 0x9E3779B97F4A7C15UL + 0x1234567;
    for (int i = 0; i < 10; ++i) draw(2);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
    if (fd < 0) return perror(path), 2;
    close(fd);
  } else {
    check_after_kill();
  }
  long end = shared->step + steps;
  // Turns of different lengths; several processes have the file open at a time, and one works.
  while (shared->step < end) {
    if (processes <= 1) {
      turn(50 + draw(200), pauses, end);
      continue;
    }
    // A sibling sits on the file meanwhile, with a mapping that it has read: it must see changes, too.
    int hold = open(path, O_RDWR);
    if (hold < 0) failed("open");
    pid_t child = fork();
    if (child == 0) {
      turn(20 + draw(60), pauses, end);
      _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) wrong("a process ended with %x", status);
    if (WEXITSTATUS(status)) return WEXITSTATUS(status);
    if (draw(2)) check_all("another process");
    struct stat st;
    if (draw(2)) {
      struct stat named;
      if (stat(path, &named) || fstat(hold, &st)) failed("stat");
      if (st.st_ino == named.st_ino && st.st_size != shared->size)
        wrong("fstat of a handle that was held: %ld, want %ld", (long)st.st_size, shared->size);
    }
    close(hold);
  }
  check_all("in the end");
  if (!survive) unlink(path), unlink(other), unlink(extra);
  return 0;
}
