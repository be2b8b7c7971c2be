#include "test/store/tree/pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "base/unique_fd.h"
#include "store/page/geometry.h"

namespace blobcache::tree {
namespace {

constexpr size_t kNamers = 2;
constexpr size_t kReaders = 2;
constexpr uint32_t kNames = 12;
constexpr uint32_t kSources = 5;
constexpr size_t kSourceSize = (size_t{2} << 20) + 1000;
constexpr size_t kMostContent = 900'000;

page::ObjectKey source_key(uint32_t source) {
  page::ObjectKey key;
  key.bytes.fill(0xee);
  key.bytes[0] = static_cast<uint8_t>(source);
  return key;
}

std::vector<std::byte> as_bytes(const std::string& text) {
  const absl::Span<const std::byte> bytes = bytes_of(text);
  return {bytes.begin(), bytes.end()};
}

uint64_t data_pages(const std::filesystem::path& path) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t bytes = 0;
  off_t hole = 0;
  for (off_t data = 0; (data = ::lseek(file.get(), hole, SEEK_DATA)) >= 0;) {
    hole = ::lseek(file.get(), data, SEEK_HOLE);
    bytes += static_cast<uint64_t>(hole - data);
  }
  return page::page_count(bytes) << page::kPageShift;
}

}  // namespace

uint64_t pages_on_disk(const std::filesystem::path& store) {
  uint64_t bytes = 0;
  for (const char* folder : {"objects", "tmp", "cache"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(store / folder)) {
      if (!entry.is_regular_file()) continue;
      // The map of an object of which nothing is left stays until somebody looks for such.
      const bool is_map = entry.path().extension() == ".map";
      const bool is_empty =
          is_map && folder == std::string_view("cache") &&
          data_pages(std::filesystem::path(entry.path()).replace_extension()) == 0;
      if (!is_empty) bytes += data_pages(entry.path());
    }
  }
  return bytes;
}

Pressure::Pressure(TreeFixture& tree, uint32_t seed)
    : tree_(tree), seed_(seed), promises_(kNamers) {
  for (uint32_t i = 0; i < kSources; ++i) {
    sources_.push_back(
        std::make_shared<page::ContentSource>(as_bytes(content_of(kSourceSize, 9'000'000 + i))));
  }
}

std::string Pressure::failures() {
  absl::MutexLock lock(&mutex_);
  return failures_;
}

void Pressure::check(bool good, std::string_view what) {
  if (good) return;
  absl::MutexLock lock(&mutex_);
  failures_.append(what).append("\n");
}

void Pressure::check_went(const absl::Status& status) {
  check(status.ok() || absl::IsResourceExhausted(status), status.ToString());
  ++(status.ok() ? stored_ : refused_);
}

void Pressure::run(int steps, const std::function<bool()>& meanwhile) {
  std::atomic<size_t> over{0};
  std::vector<std::thread> threads;
  const auto begin = [&](auto work) {
    threads.emplace_back([work = std::move(work), &over] {
      work();
      ++over;
    });
  };
  for (size_t i = 0; i < kNamers; ++i) begin([this, i, steps] { use_names(i, steps); });
  for (size_t i = 0; i < kReaders; ++i) begin([this, i, steps] { use_source(i, 10 * steps); });
  begin([this, steps] { use_unnamed(steps); });
  while (over < threads.size()) {
    check(meanwhile(), "what the test looks at all the while");
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  tree_.store().wait_cached();
}

void Pressure::use_names(size_t thread, int steps) {
  std::mt19937 random(seed_ + static_cast<uint32_t>(thread));
  Promises& promises = promises_[thread];
  for (int step = 0; step < steps; ++step) {
    const std::string path = fmt::format("files/{}/{}", thread, random() % kNames);
    const size_t size = 1 + random() % (random() % 3 == 0 ? kMostContent : 20'000);
    switch (random() % 4) {
      case 0:
        remove_named(promises, path);
        break;
      case 1:
        if (promises.contains(path)) check(holds(path, promises.at(path)), path);
        break;
      default:
        put_named(promises, path, content_of(size, static_cast<uint32_t>(random())));
    }
  }
}

void Pressure::put_named(Promises& promises, const std::string& path, const std::string& content) {
  const absl::StatusOr<CommittedBlob> blob = tree_.try_put(content, path);
  if (blob.ok()) {
    promises[path] = digest_of(content);
    check(blob->key == promises[path], "a digest");
  }
  // Else the name means what it meant.
  check_went(blob.status());
}

void Pressure::remove_named(Promises& promises, const std::string& path) {
  const absl::Status removed = tree_.names().remove(path);
  check(removed.ok() == promises.contains(path), removed.ToString());
  if (!removed.ok()) return;
  // It may have expired and gone by now.
  const absl::Status forgotten = tree_.names().remove(blob_path(promises.at(path)));
  check(forgotten.ok() || absl::IsNotFound(forgotten), forgotten.ToString());
  promises.erase(path);
}

void Pressure::use_unnamed(int steps) {
  std::mt19937 random(seed_ + 100);
  Promises promises;  // of this day
  for (int step = 0; step < steps; ++step) {
    const std::string content =
        content_of(1 + random() % (kMostContent / 2), static_cast<uint32_t>(random()));
    const absl::StatusOr<CommittedBlob> blob = tree_.try_put(content);
    check_went(blob.status());
    if (blob.ok()) promises[blob_path(blob->key)] = blob->key;
    if (step % 8 != 7) continue;
    for (const auto& [path, key] : promises) check(holds(path, key), path);
    promises.clear();
    tree_.clock().advance(absl::Hours(24));
  }
}

void Pressure::use_source(size_t thread, int steps) {
  std::mt19937 random(seed_ + 200 + static_cast<uint32_t>(thread));
  for (int step = 0; step < steps; ++step) {
    const uint32_t number = static_cast<uint32_t>(random()) % kSources;
    const std::shared_ptr<page::ContentSource>& source = sources_[number];
    const uint64_t offset = random() % kSourceSize;
    const uint64_t length = std::min<uint64_t>(
        1 + random() % (random() % 4 == 0 ? page::Object::kMaxRead : 5000), kSourceSize - offset);
    const page::ObjectRef object =
        tree_.store().attach_cached({source_key(number), kSourceSize, source});
    const absl::StatusOr<page::PinnedRange> range = object->read_wait(offset, length);
    check(range.ok() && range->size_bytes() == length, range.status().ToString());
    if (!range.ok()) continue;
    auto expected = source->content().begin() + static_cast<std::ptrdiff_t>(offset);
    for (const iovec& piece : range->pieces()) {
      const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
      check(std::equal(bytes, bytes + piece.iov_len, expected), "bytes of a source");
      expected += static_cast<std::ptrdiff_t>(piece.iov_len);
    }
  }
}

bool Pressure::holds(const std::string& path, const page::ObjectKey& promised) {
  const absl::StatusOr<Node> node = tree_.names().resolve(path);
  if (!node.ok() || node->digest != promised) return false;
  const absl::StatusOr<std::string> content = tree_.try_read(node->id);
  return content.ok() && digest_of(*content) == promised;
}

void Pressure::verify() {
  size_t names = 0;
  for (const Promises& promises : promises_) {
    names += promises.size();
    for (const auto& [path, key] : promises) {
      CAPTURE(path);
      CHECK(holds(path, key));
    }
  }
  // Counting looks for what has expired.
  CHECK(tree_.names().counts().value().names == names);
  tree_.store().wait_cached();
  const page::Stats stats = tree_.store().stats();
  CHECK(stats.checksum_errors == 0);
  CHECK(stats.disk_used_bytes == pages_on_disk(tree_.path()));
  CHECK(stats.disk_used_bytes <= stats.disk_budget_bytes);
  CHECK(stats.memory_pinned_frames == 0);
}

}  // namespace blobcache::tree
