// What a file volume costs above a plain file: made, written to with 4 KiB, abandoned and removed;
// the same without the removal; and appends of 100 bytes. Everything is in the page cache. Ends
// with the table: operations a second, and the ratios.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "bench/store/page/bench_medians.h"
#include "store/volume/volume.h"
#include "store/volume/workers.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSmallFile = 4096;
constexpr size_t kAppend = 100;
constexpr uint64_t kAppends = 100000;  // then the next file

/// Makes files, one at a time.
class Maker {
 public:
  virtual ~Maker() = default;
  virtual void begin(const fs::path& path) = 0;
  virtual void write(uint64_t offset, const std::vector<std::byte>& bytes) = 0;
  virtual void end() = 0;
  virtual void remove(const fs::path& path) = 0;
};

class VolumeMaker final : public Maker {
 public:
  void begin(const fs::path& path) override {
    const VolumeOptions options = options_for(path);
    auto created = Volume::create_file(options, 0);
    if (!created.ok()) std::abort();
    volume_ = *std::move(created);
  }
  void write(uint64_t offset, const std::vector<std::byte>& bytes) override {
    if (!volume_->write_wait(offset, bytes).ok()) std::abort();
  }
  void end() override {
    volume_->abandon();
    volume_.reset();
  }
  void remove(const fs::path& path) override {
    if (!Volume::remove_file(options_for(path)).ok()) std::abort();
  }

 private:
  [[nodiscard]] VolumeOptions options_for(const fs::path& path) {
    VolumeOptions options;
    options.path = path;
    options.in_folder = false;
    options.workers = &workers_;
    return options;
  }

  Workers workers_;
  std::shared_ptr<Volume> volume_;
};

class PlainMaker final : public Maker {
 public:
  void begin(const fs::path& path) override {
    file_ = base::UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file_.valid()) std::abort();
  }
  void write(uint64_t offset, const std::vector<std::byte>& bytes) override {
    const ssize_t done =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  void end() override { file_ = base::UniqueFd(); }
  void remove(const fs::path& path) override {
    if (::unlink(path.c_str()) != 0) std::abort();
  }

 private:
  base::UniqueFd file_;
};

void small_files(benchmark::State& state, Maker& maker, const fs::path& folder, bool removes) {
  const std::vector<std::byte> bytes(kSmallFile, std::byte{1});
  fs::create_directories(folder);
  uint64_t number = 0;
  for (auto _ : state) {
    const fs::path path = folder / std::to_string(number++);
    maker.begin(path);
    maker.write(0, bytes);
    maker.end();
    if (removes) maker.remove(path);
  }
  state.SetItemsProcessed(state.iterations());
  fs::remove_all(folder);
}

void appends(benchmark::State& state, Maker& maker, const fs::path& folder) {
  const std::vector<std::byte> bytes(kAppend, std::byte{2});
  fs::create_directories(folder);
  maker.begin(folder / "0");
  uint64_t number = 0;
  for (auto _ : state) {
    maker.write(number % kAppends * kAppend, bytes);
    if (++number % kAppends != 0) continue;
    state.PauseTiming();
    maker.end();
    maker.begin(folder / std::to_string(number));
    state.ResumeTiming();
  }
  maker.end();
  state.SetItemsProcessed(state.iterations());
  fs::remove_all(folder);
}

int run(int argc, char** argv) {
  // As the daemon has it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::string pattern = (fs::temp_directory_path() / "files-bench-XXXXXX").string();
  const fs::path folder = ::mkdtemp(pattern.data());
  VolumeMaker volumes;
  PlainMaker plain;
  for (const auto& [kind, maker] : {std::pair<std::string, Maker*>("volume_", &volumes),
                                    std::pair<std::string, Maker*>("file_", &plain)}) {
    const fs::path own = folder / kind;
    const auto add = [&, target = maker](const char* name, auto call) {
      benchmark::RegisterBenchmark((kind + name).c_str(), [=](auto& state) {
        call(state, *target, own);
      })->UseRealTime();
    };
    add("made_4k", [](auto& state, Maker& by, auto& in) { small_files(state, by, in, false); });
    add("made_4k_removed",
        [](auto& state, Maker& by, auto& in) { small_files(state, by, in, true); });
    add("append_100", [](auto& state, Maker& by, auto& in) { appends(state, by, in); });
  }
  page::Medians medians;
  const bool ran = page::run_in_turns(argc, argv, 5, medians);
  if (ran) fmt::print("\n{:24}{:>14}{:>14}{:>10}\n", "", "volume, /s", "file, /s", "ratio");
  for (const char* name : {"made_4k", "made_4k_removed", "append_100"}) {
    const auto volume = medians.of(std::string("volume_") + name);
    const auto file = medians.of(std::string("file_") + name);
    if (volume.counters.empty() || file.counters.empty()) continue;
    const double ours = volume.counters.at("items_per_second");
    const double theirs = file.counters.at("items_per_second");
    fmt::print("{:24}{:>14.0f}{:>14.0f}{:>10.2f}\n", name, ours, theirs, ours / theirs);
  }
  fs::remove_all(folder);
  return ran ? 0 : 2;
}

}  // namespace
}  // namespace blobcache::volume

int main(int argc, char** argv) { return blobcache::volume::run(argc, argv); }
