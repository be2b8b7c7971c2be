#include "bench/store/page/bench_store.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/status.h"

namespace blobcache::page {

void require(const absl::Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", base::message(status));
  std::exit(1);
}

namespace {

PageStoreOptions with_memory(uint64_t bytes) {
  PageStoreOptions options;
  options.memory_bytes = bytes;
  return options;
}

}  // namespace

BenchStore::BenchStore(uint64_t memory_bytes, const std::filesystem::path& where)
    : BenchStore(with_memory(memory_bytes), where) {}

BenchStore::BenchStore(PageStoreOptions options, const std::filesystem::path& where) {
  const auto parent = where.empty() ? std::filesystem::temp_directory_path() : where;
  std::string name = (parent / "blobcache-bench.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::exit(1);
  path_ = name;
  options.path = path_;
  auto opened = PageStore::open(options);
  require(opened.status());
  store_ = *std::move(opened);
}

BenchStore::~BenchStore() {
  store_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

namespace {

void append_random(ObjectWriter& writer, uint64_t size_bytes, std::mt19937_64& random) {
  std::vector<uint64_t> piece((uint64_t{1} << 20) / sizeof(uint64_t));
  for (uint64_t at = 0; at < size_bytes;) {
    for (uint64_t& word : piece) word = random();
    const void* bytes = piece.data();
    const uint64_t length = std::min<uint64_t>(size_bytes - at, uint64_t{1} << 20);
    require(writer.append({static_cast<const std::byte*>(bytes), length}));
    at += length;
  }
}

}  // namespace

ObjectRef BenchStore::put(uint64_t size_bytes) {
  auto writer = store_->create(Retention::kKept, size_bytes);
  require(writer.status());
  append_random(**writer, size_bytes, random_);
  ObjectSpec spec;
  spec.key.bytes[0] = next_key_++;
  const auto sealed = (*writer)->seal(spec.key, {.text = "bench", .records = {}});
  require(sealed.status());
  (*writer)->keep();
  spec.incarnation = sealed->incarnation;
  spec.size_bytes = sealed->size_bytes;
  spec.inline_map = sealed->inline_map;
  return store_->attach(spec);
}

void BenchStore::put_and_drop(uint64_t size_bytes) {
  std::mt19937_64 random(2);
  auto writer = store_->create(Retention::kKept, size_bytes);
  require(writer.status());
  append_random(**writer, size_bytes, random);
  ObjectKey key;
  key.bytes[31] = 1;
  require((*writer)->seal(key, {.text = "bench", .records = {}}).status());
  ObjectWriter* sealed = writer->get();
  require(store_->sync({&sealed, 1}));
}

void BenchStore::warm(Object& object) {
  for (uint64_t at = 0; at < object.size_bytes(); at += Object::kMaxRead) {
    const uint64_t length = std::min<uint64_t>(Object::kMaxRead, object.size_bytes() - at);
    require(object.read_wait(at, length).status());
  }
}

}  // namespace blobcache::page
