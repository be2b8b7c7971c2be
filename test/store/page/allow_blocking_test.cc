// Reads that the thread which asks for them may wait for.

#include "store/page/allow_blocking.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "store/page/page_store.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// How a read of `content` at `offset` ended, and where.
struct Outcome {
  absl::Status status;
  bool right = false;    // all bytes are `content`'s
  bool here = false;     // on the thread that asked, before read() returned
  bool further = false;  // and what goes on then might have blocked it, too
};

Outcome read(Object& object, absl::Span<const std::byte> content, uint64_t offset,
             uint64_t length) {
  Outcome outcome;
  absl::Notification over;
  bool returned = false;
  const std::thread::id asker = std::this_thread::get_id();
  (void)object.read(offset, length, [&](absl::StatusOr<PinnedRange> range) {
    outcome.here = std::this_thread::get_id() == asker && !returned;
    outcome.further = AllowBlocking::allowed();
    outcome.status = range.status();
    uint64_t at = offset;
    outcome.right = range.ok();
    if (range.ok()) {
      for (const iovec& piece : range->pieces()) {
        outcome.right &= std::memcmp(piece.iov_base, content.data() + at, piece.iov_len) == 0;
        at += piece.iov_len;
      }
      outcome.right &= at == offset + length;
    }
    over.Notify();
  });
  returned = true;
  over.WaitForNotification();
  return outcome;
}

}  // namespace

TEST_CASE("allow blocking: a read of the disk is over when the call returns, if it may block") {
  Fixture fixture;
  const auto content = random_bytes(5U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  Outcome outcome = read(*object, content, 4096, 4096);
  CHECK(outcome.right);
  CHECK_FALSE(outcome.here);
  {
    const AllowBlocking here;
    CHECK(AllowBlocking::allowed());
    for (const uint64_t length : {uint64_t{4096}, uint64_t{100}, Object::kMaxRead}) {
      outcome = read(*object, content, (2U << 20) + length, length);
      CHECK(outcome.right);
      CHECK(outcome.here);
      CHECK_FALSE(outcome.further);
    }
    // The last page is not a whole one.
    const uint64_t size = content.size();
    outcome = read(*object, content, size - 10, 10);
    CHECK(outcome.right);
    const AllowBlocking not_here(false);
    CHECK_FALSE(AllowBlocking::allowed());
    CHECK_FALSE(read(*object, content, 9U << 19, 4096).here);
  }
  CHECK_FALSE(AllowBlocking::allowed());
  // It is the one thread's.
  const AllowBlocking here;
  std::thread([] { CHECK_FALSE(AllowBlocking::allowed()); }).join();
}

TEST_CASE("allow blocking: damage, failures and parts are handled as ever") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(3'000'001, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.close();
  flip_byte(fixture.file_of(spec), 1U << 20);
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  const AllowBlocking here;
  const Outcome damaged = read(*object, content, 1U << 20, 4096);
  CHECK(absl::IsDataLoss(damaged.status));
  const Outcome around = read(*object, content, (1U << 20) - 40000, 100000);
  CHECK(absl::IsDataLoss(around.status));
  CHECK(base::offset_of(around.status) == 1U << 20);
  CHECK(read(*object, content, (1U << 20) + 4096, 4096).right);

  faults.arm(DiskStep::Kind::kRead, 0, -EIO);
  CHECK(absl::IsDataLoss(read(*object, content, 2U << 20, 4096).status));
  faults.disarm();
  CHECK(read(*object, content, 2U << 20, 4096).right);

  faults.arm(DiskStep::Kind::kRead, 0, static_cast<int>(kPageSize), /*from_there_on=*/true);
  CHECK(read(*object, content, 500'000, 300'000).right);
  CHECK(faults.seen() > 0);
  faults.disarm();

  std::filesystem::resize_file(fixture.file_of(spec), 2'900'000);
  CHECK(absl::IsDataLoss(read(*object, content, 2'950'000, 100).status));
}

}  // namespace blobcache::page
