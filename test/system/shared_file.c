// Several processes write to one file at the same time, each to slices of its own that share pages with the others',
// and each finds in its slices what it wrote last.
// Usage: shared_file PATH[,PATH2...] SEED PROCESSES SECONDS SIZE SLICE
//   The paths name the same file (through several mounts); processes take them by turns.
// A slice is SLICE bytes; process p has the slices p, p + PROCESSES, ...
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long state;
static unsigned long draw(unsigned long n) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state * 0x2545F4914F6CDD1DUL >> 16) % n;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int worker(char** paths, int count, int me, int processes, unsigned long seed, double seconds, long size,
                  long slice) {
  state = seed * 1000003 + me * 7919 + 12345;
  for (int i = 0; i < 5; ++i) draw(2);
  long slices = size / slice, mine = (slices - me + processes - 1) / processes;
  unsigned char* want = calloc(mine, 1);  // a slice is filled with one byte
  unsigned char *bytes = malloc(slice), *got = malloc(slice);
  const char* path = paths[me % count];
  int fd = open(path, O_RDWR);
  if (fd < 0) return perror(path), 1;
  double end = now() + seconds;
  long steps = 0;
  while (now() < end) {
    ++steps;
    long k = draw(mine), at = (k * processes + me) * slice;
    switch (draw(12)) {
      case 0:
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, slice)) return perror("punch"), 1;
        want[k] = 0;
        break;
      case 1:
        if (fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, slice)) return perror("zero range"), 1;
        want[k] = 0;
        break;
      case 2:
        if (draw(4) == 0 && fdatasync(fd)) return perror("fdatasync"), 1;
        if (draw(4) == 0) {
          if (close(fd)) return perror("close"), 1;
          if (draw(3) == 0) usleep(draw(100000));
          fd = open(path, O_RDWR | (draw(6) ? 0 : O_DSYNC));
          if (fd < 0) return perror("open again"), 1;
        }
        break;
      case 3:
      case 4:
      case 5:
      case 6: {
        memset(got, 0xEE, slice);
        if (pread(fd, got, slice, at) != slice) return fprintf(stderr, "a short read at %ld\n", at), 1;
        for (long i = 0; i < slice; ++i) {
          if (got[i] == want[k]) continue;
          fprintf(stderr, "seed %lu, process %d, step %ld: byte %ld is %02x, want %02x (slice at %ld)\n", seed, me, steps,
                  at + i, got[i], want[k], at);
          return 1;
        }
        break;
      }
      default: {
        want[k] = 1 + draw(255);
        memset(bytes, want[k], slice);
        long part = draw(3) ? slice : (long)draw(slice);  // in one write or in two
        if (pwrite(fd, bytes, part, at) != part || pwrite(fd, bytes, slice - part, at + part) != slice - part)
          return perror("pwrite"), 1;
      }
    }
  }
  for (int p = 0; p < count; ++p) {
    double limit = now() + 3;
    int other = open(paths[p], O_RDONLY);
    for (long k = 0; k < mine; ++k) {
      long at = (k * processes + me) * slice;
      for (;;) {
        memset(bytes, want[k], slice);
        if (pread(other, got, slice, at) != slice) return fprintf(stderr, "a short read in the end at %ld\n", at), 1;
        if (memcmp(got, bytes, slice) == 0) break;
        if (now() > limit) {
          fprintf(stderr, "seed %lu, process %d, in the end: %s: slice at %ld has %02x, want %02x\n", seed, me, paths[p], at,
                  got[0], want[k]);
          return 1;
        }
      }
    }
    close(other);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 7) return fprintf(stderr, "usage: %s PATHS SEED PROCESSES SECONDS SIZE SLICE\n", argv[0]), 2;
  char* paths[8];
  int count = 0;
  for (char* p = strtok(argv[1], ","); p && count < 8; p = strtok(NULL, ",")) paths[count++] = p;
  unsigned long seed = strtoul(argv[2], NULL, 10);
  int processes = atoi(argv[3]), bad = 0;
  long size = atol(argv[5]), slice = atol(argv[6]);
  int fd = open(paths[0], O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || ftruncate(fd, size)) return perror(paths[0]), 2;
  close(fd);
  // Another mount learns of the length within moments; what it shows until then is not what is tested.
  for (int p = 0; p < count; ++p) {
    double limit = now() + 3;
    for (struct stat told = {0}; stat(paths[p], &told) || told.st_size != size; usleep(1000))
      if (now() > limit) return fprintf(stderr, "%s does not show the length\n", paths[p]), 1;
  }
  for (int me = 0; me < processes; ++me)
    if (fork() == 0) _exit(worker(paths, count, me, processes, seed, atof(argv[4]), size, slice));
  for (int i = 0; i < processes; ++i) {
    int status;
    wait(&status);
    bad |= status;
  }
  return bad ? 1 : 0;
}
