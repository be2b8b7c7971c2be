// What a volume costs above the file that it writes to: 4 KiB random writes and reads, to pages
// that are its own already and to fresh ones, and 256 KiB in sequence, on one thread and two,
// beside pwrite and pread on a plain file. Everything is in the page cache, where the difference is
// largest. Ends with the table: operations a second, and the ratios.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "bench/store/page/bench_allocations.h"
#include "bench/store/page/bench_medians.h"
#include "store/volume/volume.h"
#include "store/volume/workers.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kSize = uint64_t{128} << 20;
constexpr uint64_t kSmall = 4096;
constexpr uint64_t kLarge = uint64_t{256} << 10;

/// What is measured: a volume or a file, whole, and in the page cache.
class Image {
 public:
  virtual ~Image() = default;
  virtual void write(uint64_t offset, absl::Span<const std::byte> bytes) = 0;
  virtual void read(uint64_t offset, absl::Span<std::byte> into) = 0;
  /// Makes all of it holes.
  virtual void empty() = 0;
};

class VolumeImage final : public Image {
 public:
  explicit VolumeImage(const std::filesystem::path& path) {
    VolumeOptions options;
    options.path = path;
    options.workers = &workers_;
    auto created = Volume::create(options, kSize);
    if (!created.ok()) std::abort();
    volume_ = *std::move(created);
  }
  void write(uint64_t offset, absl::Span<const std::byte> bytes) override {
    volume_->write(offset, bytes, false, [](const absl::Status& status) {
      if (!status.ok()) std::abort();
    });
  }
  void read(uint64_t offset, absl::Span<std::byte> into) override {
    if (!volume_->try_read(offset, into) && !volume_->read_wait(offset, into).ok()) std::abort();
  }
  void empty() override {
    if (!volume_->trim_wait(0, kSize).ok()) std::abort();
  }

 private:
  Workers workers_;
  std::shared_ptr<Volume> volume_;
};

class FileImage final : public Image {
 public:
  explicit FileImage(const std::filesystem::path& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    empty();
  }
  void write(uint64_t offset, absl::Span<const std::byte> bytes) override {
    const ssize_t done =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  void read(uint64_t offset, absl::Span<std::byte> into) override {
    const ssize_t done = ::pread(file_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (done != static_cast<ssize_t>(into.size())) std::abort();
  }
  void empty() override {
    if (::ftruncate(file_.get(), 0) != 0 || ::ftruncate(file_.get(), kSize) != 0) std::abort();
  }

 private:
  const base::UniqueFd file_;
};

struct Images {
  std::filesystem::path folder;
  std::unique_ptr<Image> volume;
  std::unique_ptr<Image> file;
};

void fill(Image& image) {
  std::vector<std::byte> bytes(kLarge, std::byte{1});
  for (uint64_t at = 0; at < kSize; at += kLarge) image.write(at, bytes);
  std::vector<std::byte> into(kLarge);
  for (uint64_t at = 0; at < kSize; at += kLarge) image.read(at, absl::MakeSpan(into));
}

enum class Work : uint8_t { kWrite, kRead };

void random_small(benchmark::State& state, Image& image, Work work) {
  if (state.thread_index() == 0) fill(image);
  std::vector<std::byte> bytes(kSmall, static_cast<std::byte>(state.thread_index()));
  std::mt19937_64 random(static_cast<uint64_t>(state.thread_index()));
  uint64_t before = 0;
  for (auto _ : state) {
    if (before == 0) before = page::allocated_bytes();
    const uint64_t offset = random() % (kSize / kSmall) * kSmall;
    if (work == Work::kWrite) {
      image.write(offset, bytes);
    } else {
      image.read(offset, absl::MakeSpan(bytes));
    }
  }
  if (state.threads() == 1) {
    state.counters["heap_bytes"] = static_cast<double>(page::allocated_bytes() - before) /
                                   static_cast<double>(state.iterations());
  }
  state.SetItemsProcessed(state.iterations());
}

/// Writes each page once, in an order without neighbours, and begins anew.
void fresh_small(benchmark::State& state, Image& image) {
  const std::vector<std::byte> bytes(kSmall, std::byte{2});
  constexpr uint64_t kPages = kSize / kSmall;
  image.empty();
  // The first pages bring the map to memory, as the first ones of any use do.
  uint64_t number = 0;
  for (auto _ : state) {
    if (number == kPages) {
      state.PauseTiming();
      image.empty();
      number = 0;
      state.ResumeTiming();
    }
    image.write(number++ * 7919 % kPages * kSmall, bytes);
  }
  state.SetItemsProcessed(state.iterations());
}

void sequential_large(benchmark::State& state, Image& image, Work work) {
  if (state.thread_index() == 0) fill(image);
  std::vector<std::byte> bytes(kLarge, std::byte{3});
  uint64_t at = kSize / 2 * static_cast<uint64_t>(state.thread_index());
  for (auto _ : state) {
    if (work == Work::kWrite) {
      image.write(at, bytes);
    } else {
      image.read(at, absl::MakeSpan(bytes));
    }
    at = (at + kLarge) % kSize;
  }
  state.SetItemsProcessed(state.iterations());
}

struct Row {
  std::string name;
  std::vector<int> threads;
};

void print_table(const page::Medians& medians, const std::vector<Row>& rows) {
  fmt::print("\n{:24}{:>8}{:>14}{:>14}{:>10}{:>14}\n", "", "threads", "volume, /s", "file, /s",
             "ratio", "heap bytes");
  for (const Row& row : rows) {
    for (const int threads : row.threads) {
      const auto volume = medians.of("volume_" + row.name, threads);
      const auto file = medians.of("file_" + row.name, threads);
      if (volume.counters.empty() || file.counters.empty()) continue;
      const double ours = volume.counters.at("items_per_second");
      const double theirs = file.counters.at("items_per_second");
      const auto heap = volume.counters.find("heap_bytes");
      fmt::print("{:24}{:>8}{:>14.0f}{:>14.0f}{:>10.2f}{:>14}\n", row.name, threads, ours, theirs,
                 ours / theirs,
                 heap == volume.counters.end() ? "" : fmt::format("{:.1f}", heap->second));
    }
  }
}

int run(int argc, char** argv) {
  Images images;
  std::string pattern = (std::filesystem::temp_directory_path() / "volume-bench-XXXXXX").string();
  images.folder = ::mkdtemp(pattern.data());
  images.volume = std::make_unique<VolumeImage>(images.folder / "volume");
  images.file = std::make_unique<FileImage>(images.folder / "file");
  const std::vector<Row> rows = {{"write_4k", {1, 2}},
                                 {"read_4k", {1, 2}},
                                 {"write_4k_fresh", {1}},
                                 {"write_256k", {1, 2}},
                                 {"read_256k", {1, 2}}};
  for (const auto& [kind, image] :
       {std::pair("volume_", images.volume.get()), std::pair("file_", images.file.get())}) {
    const auto add = [&, prefix = std::string(kind), target = image](const char* name, auto call) {
      for (const Row& row : rows) {
        if (row.name != name) continue;
        for (const int threads : row.threads) {
          benchmark::RegisterBenchmark((prefix + name).c_str(),
                                       [target, call](auto& state) { call(state, *target); })
              ->Threads(threads)
              ->UseRealTime();
        }
      }
    };
    add("write_4k", [](auto& state, Image& on) { random_small(state, on, Work::kWrite); });
    add("read_4k", [](auto& state, Image& on) { random_small(state, on, Work::kRead); });
    add("write_4k_fresh", [](auto& state, Image& on) { fresh_small(state, on); });
    add("write_256k", [](auto& state, Image& on) { sequential_large(state, on, Work::kWrite); });
    add("read_256k", [](auto& state, Image& on) { sequential_large(state, on, Work::kRead); });
  }
  page::Medians medians;
  const bool ran = page::run_in_turns(argc, argv, 5, medians);
  if (ran) print_table(medians, rows);
  images.volume.reset();
  images.file.reset();
  std::filesystem::remove_all(images.folder);
  return ran ? 0 : 2;
}

}  // namespace
}  // namespace blobcache::volume

int main(int argc, char** argv) { return blobcache::volume::run(argc, argv); }
