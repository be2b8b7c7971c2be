// Reads files as a program does that knows nothing of what is beneath them, and times it:
//
//     file_reads_load stream FILE BLOCK [direct]
//     file_reads_load random|map|map-random FILE BLOCK COUNT SEED
//     file_reads_load open FOLDER FOLDERS FILES
//     file_reads_load drop FILE...
//
// `stream` reads the file in sequence, past the kernel's page cache with `direct`. `random` reads
// COUNT blocks, none twice, with pread; `map` touches each of their pages through a mapping, and
// `map-random` tells the kernel of it (MADV_RANDOM). `open` opens, stats and closes
// FOLDER/dNNN/fNNN, FILES in each of FOLDERS folders. Each prints the seconds that it took, the
// bytes or files, and the microseconds that half and 99 of 100 steps took at most. `drop` has the
// kernel forget the files' pages, and prints how many of them it keeps all the same.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace blobcache::fusefs {
namespace {

using FileReadsClock = std::chrono::steady_clock;

constexpr size_t kMemoryPage = 4096;

[[noreturn]] void give_up(std::string_view what) {
  fmt::print(stderr, "file_reads_load: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

uint64_t to_number(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

base::UniqueFd open_file(const std::string& path, int flags) {
  base::UniqueFd out(::open(path.c_str(), flags | O_CLOEXEC));
  if (!out.valid()) give_up(path);
  return out;
}

uint64_t size_of(const base::UniqueFd& file) {
  struct stat attributes = {};
  if (::fstat(file.get(), &attributes) != 0) give_up("fstat");
  return static_cast<uint64_t>(attributes.st_size);
}

/// A file's bytes in memory, unmapped at the end.
class FileMapping {
 public:
  FileMapping(const base::UniqueFd& file, uint64_t size_bytes) : size_(size_bytes) {
    void* const at = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
    if (at == MAP_FAILED) give_up("mmap");
    bytes_ = static_cast<std::byte*>(at);
  }
  ~FileMapping() { ::munmap(bytes_, size_); }
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;
  [[nodiscard]] std::byte* bytes() const { return bytes_; }

 private:
  std::byte* bytes_ = nullptr;
  const uint64_t size_;
};

/// How long each step took, and all of them.
class StepTimes {
 public:
  explicit StepTimes(size_t steps) { steps_.reserve(steps); }

  template <typename Step>
  void run(Step step) {
    const auto begin = FileReadsClock::now();
    step();
    steps_.push_back(FileReadsClock::now() - begin);
  }

  /// `done`: the bytes or files of all steps.
  void print(uint64_t done) {
    const auto seconds = std::chrono::duration<double>(FileReadsClock::now() - begin_).count();
    std::sort(steps_.begin(), steps_.end());
    fmt::print("{:.6f} {} {:.2f} {:.2f}\n", seconds, done, at_share(0.5), at_share(0.99));
  }

 private:
  [[nodiscard]] double at_share(double share) const {
    if (steps_.empty()) return 0;
    const auto place = static_cast<size_t>(static_cast<double>(steps_.size() - 1) * share);
    return std::chrono::duration<double, std::micro>(steps_[place]).count();
  }

  const FileReadsClock::time_point begin_ = FileReadsClock::now();
  std::vector<FileReadsClock::duration> steps_;
};

void stream(const std::string& path, size_t block, bool direct) {
  // O_DIRECT wants aligned memory; a fresh mapping would take its page faults into the time.
  std::vector<std::byte> memory(block + kMemoryPage);
  void* buffer = memory.data();
  size_t room = memory.size();
  if (std::align(kMemoryPage, block, buffer, room) == nullptr) give_up("align");
  std::memset(buffer, 1, block);
  StepTimes times(1024);
  const base::UniqueFd file = open_file(path, O_RDONLY | (direct ? O_DIRECT : 0));
  uint64_t done = 0;
  ssize_t got = 0;
  do {
    times.run([&] { got = ::read(file.get(), buffer, block); });
    if (got < 0) give_up(path);
    done += static_cast<uint64_t>(got);
  } while (got > 0);
  times.print(done);
}

/// Offsets of `count` blocks, none twice, in a random order that `seed` decides.
std::vector<uint64_t> pick_blocks(uint64_t size, size_t block, size_t count, uint64_t seed) {
  std::vector<uint64_t> out(size / block);
  std::iota(out.begin(), out.end(), uint64_t{0});
  std::mt19937_64 random(seed);
  std::shuffle(out.begin(), out.end(), random);
  out.resize(std::min(out.size(), count));
  for (uint64_t& at : out) at *= block;
  return out;
}

void read_at_random(const std::string& path, size_t block, size_t count, uint64_t seed) {
  const base::UniqueFd file = open_file(path, O_RDONLY);
  const std::vector<uint64_t> offsets = pick_blocks(size_of(file), block, count, seed);
  std::vector<std::byte> buffer(block);
  StepTimes times(offsets.size());
  for (const uint64_t offset : offsets) {
    times.run([&] {
      const ssize_t got = ::pread(file.get(), buffer.data(), block, static_cast<off_t>(offset));
      if (got != static_cast<ssize_t>(block)) give_up(path);
    });
  }
  times.print(offsets.size() * block);
}

void touch_at_random(const std::string& path, size_t block, size_t count, uint64_t seed,
                     bool advise) {
  const base::UniqueFd file = open_file(path, O_RDONLY);
  const uint64_t size = size_of(file);
  const FileMapping mapping(file, size);
  if (advise && ::madvise(mapping.bytes(), size, MADV_RANDOM) != 0) give_up("madvise");
  const std::vector<uint64_t> offsets = pick_blocks(size, block, count, seed);
  StepTimes times(offsets.size());
  for (const uint64_t offset : offsets) {
    times.run([&] {
      for (size_t at = 0; at < block; at += kMemoryPage) {
        (void)*static_cast<const volatile std::byte*>(mapping.bytes() + offset + at);
      }
    });
  }
  times.print(offsets.size() * block);
}

void open_all(const std::string& folder, uint64_t folders, uint64_t files) {
  StepTimes times(folders * files);
  for (uint64_t in = 0; in < folders; ++in) {
    for (uint64_t number = 0; number < files; ++number) {
      times.run([&] {
        const base::UniqueFd file =
            open_file(fmt::format("{}/d{:03}/f{:03}", folder, in, number), O_RDONLY);
        size_of(file);
      });
    }
  }
  times.print(folders * files);
}

uint64_t drop(const std::string& path) {
  const base::UniqueFd file = open_file(path, O_RDONLY);
  const uint64_t size = size_of(file);
  if (size == 0) return 0;
  // What is dirty cannot be dropped; on a read-only mount there is nothing to sync, nor a way to.
  (void)::fdatasync(file.get());
  const int error = ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (error != 0) {
    errno = error;
    give_up(path);
  }
  const FileMapping mapping(file, size);
  std::vector<unsigned char> resident((size + kMemoryPage - 1) / kMemoryPage);
  if (::mincore(mapping.bytes(), size, resident.data()) != 0) give_up("mincore");
  return static_cast<uint64_t>(std::count_if(resident.begin(), resident.end(),
                                             [](unsigned char page) { return (page & 1U) != 0; }));
}

int usage() {
  fmt::print(stderr,
             "usage: file_reads_load stream FILE BLOCK [direct]\n"
             "       file_reads_load random|map|map-random FILE BLOCK COUNT SEED\n"
             "       file_reads_load open FOLDER FOLDERS FILES\n"
             "       file_reads_load drop FILE...\n");
  return 2;
}

int run_file_reads(const std::vector<std::string>& words) {
  const std::string_view what = words.empty() ? "" : words[0];
  if (what == "stream" && (words.size() == 3 || (words.size() == 4 && words[3] == "direct"))) {
    stream(words[1], to_number(words[2]), words.size() == 4);
  } else if (what == "random" && words.size() == 5) {
    read_at_random(words[1], to_number(words[2]), to_number(words[3]), to_number(words[4]));
  } else if ((what == "map" || what == "map-random") && words.size() == 5) {
    touch_at_random(words[1], to_number(words[2]), to_number(words[3]), to_number(words[4]),
                    what == "map-random");
  } else if (what == "open" && words.size() == 4) {
    open_all(words[1], to_number(words[2]), to_number(words[3]));
  } else if (what == "drop" && words.size() > 1) {
    uint64_t left = 0;
    for (size_t file = 1; file < words.size(); ++file) left += drop(words[file]);
    fmt::print("{}\n", left);
  } else {
    return usage();
  }
  return 0;
}

}  // namespace
}  // namespace blobcache::fusefs

int main(int argc, char** argv) {
  return blobcache::fusefs::run_file_reads(std::vector<std::string>(argv + 1, argv + argc));
}
