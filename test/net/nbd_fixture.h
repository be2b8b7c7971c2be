#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/nbd_url.h"
#include "net/impl/nbd_tree.h"
#include "net/nbd_origin.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/origin.h"
#include "store/volume/image.h"
#include "test/net/fixture.h"
#include "test/net/nbd_server.h"

/// Ends a test case, with a word of it, on a machine that lacks what it needs.
#define NEEDS(what)                                \
  if (!(what)) {                                   \
    MESSAGE("skipped: " #what " is not the case"); \
    return;                                        \
  }

namespace blobcache::net {

inline constexpr uint64_t kMib = uint64_t{1} << 20;
inline const bool kHaveNbdkit = NbdServer::can_run("nbdkit");

/// A folder with a server's socket in it, and origins of that server.
struct NbdWorld {
  NbdWorld() : server(dir.path() / "nbd.sock") {}

  [[nodiscard]] std::filesystem::path file(const Bytes& content) const {
    const std::filesystem::path path = dir.path() / "image";
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(content.data()),
              static_cast<std::streamsize>(content.size()));
    return path;
  }
  [[nodiscard]] NbdOriginOptions options(const std::string& export_name = "x") const {
    NbdOriginOptions options;
    options.name = "up";
    options.url = server.url(export_name);
    return options;
  }
  [[nodiscard]] static std::shared_ptr<NbdTree> origin(const NbdOriginOptions& options) {
    const std::shared_ptr<tree::Origin> made = value_of(make_nbd_origin(options));
    auto tree = std::dynamic_pointer_cast<NbdTree>(made);
    REQUIRE(tree);
    return tree;
  }

  TempDir dir;
  NbdServer server;
};

/// A call with a callback, waited for.
class Answer {
 public:
  [[nodiscard]] std::function<void(absl::Status)> done() {
    return [shared = shared_](const absl::Status& status) {
      shared->status = status;
      shared->there.Notify();
    };
  }
  [[nodiscard]] bool there() const { return shared_->there.HasBeenNotified(); }
  [[nodiscard]] absl::Status wait() const {
    // A limit for what hangs, which no test that passes comes near.
    REQUIRE(shared_->there.WaitForNotificationWithTimeout(absl::Seconds(120)));
    return shared_->status;
  }

 private:
  struct Shared {
    absl::Notification there;
    absl::Status status;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

inline absl::Status fetch(page::Source& source, uint64_t offset, absl::Span<std::byte> into) {
  const Answer answer;
  const auto fetch = source.fetch(offset, into, Answer(answer).done());
  return answer.wait();
}

inline absl::StatusOr<Bytes> fetch(page::Source& source, uint64_t offset, uint64_t length) {
  Bytes bytes(length, std::byte{0xEE});
  const absl::Status status = fetch(source, offset, absl::MakeSpan(bytes));
  if (!status.ok()) return status;
  return bytes;
}

/// A source that can be given back, as the tree lends it to the page store, which may remember an
/// object for longer than anybody has it open.
class LentToStore final : public page::Source {
 public:
  explicit LentToStore(std::shared_ptr<page::Source> source) : source_(std::move(source)) {}
  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override {
    return source_->fetch(offset, into, std::move(done));
  }
  void give_back() { source_.reset(); }

 private:
  std::shared_ptr<page::Source> source_;
};

/// An image of an origin over a page store, as the tree makes it.
struct OpenImage {
  OpenImage(NbdTree& origin, page::PageStore& pages, const std::string& path = "x") {
    tree::OriginFile file = value_of(origin.open(path));
    REQUIRE(file.make_image);
    lent = std::make_shared<LentToStore>(file.version.source);
    file.version.source = lent;
    object = pages.attach_cached(file.version);
    image = std::move(file.make_image)(object);
  }
  ~OpenImage() { lent->give_back(); }
  OpenImage(const OpenImage&) = delete;
  OpenImage& operator=(const OpenImage&) = delete;

  absl::Status write(uint64_t offset, const Bytes& bytes, bool fua = false) const {
    const Answer answer;
    image->write(offset, bytes, fua, Answer(answer).done());
    return answer.wait();
  }
  absl::Status zero(uint64_t offset, uint64_t length, volume::ZeroFlags flags = {}) const {
    const Answer answer;
    image->write_zeroes(offset, length, flags, Answer(answer).done());
    return answer.wait();
  }
  absl::Status trim(uint64_t offset, uint64_t length) const {
    const Answer answer;
    image->trim(offset, length, false, Answer(answer).done());
    return answer.wait();
  }
  absl::Status flush() const {
    const Answer answer;
    image->flush(Answer(answer).done());
    return answer.wait();
  }
  absl::StatusOr<Bytes> read(uint64_t offset, uint64_t length) const {
    Bytes bytes(length, std::byte{0xEE});
    const Answer answer;
    image->read(offset, absl::MakeSpan(bytes), Answer(answer).done());
    const absl::Status status = answer.wait();
    if (!status.ok()) return status;
    return bytes;
  }

  std::shared_ptr<LentToStore> lent;
  page::ObjectRef object;
  std::shared_ptr<volume::Image> image;
};

}  // namespace blobcache::net
