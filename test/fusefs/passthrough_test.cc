// Which opens the kernel reads by itself: all of an inode agree.

#include "fusefs/impl/passthrough.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cerrno>
#include <set>

#include "base/status.h"

namespace blobcache::fusefs {
namespace {

class FakeKernel final : public BackingFiles {
 public:
  absl::StatusOr<int32_t> open(int fd) override {
    CHECK(fd >= 0);
    if (error != 0) return base::errno_error(error, "ioctl");
    const int32_t backing = ++last_;
    lent.insert(backing);
    return backing;
  }
  void close(int32_t backing) override { CHECK(lent.erase(backing) == 1); }

  int error = 0;
  std::set<int32_t> lent;

 private:
  int32_t last_ = 0;
};

/// A file to lend, and whether it is lent.
struct Lender {
  absl::StatusOr<page::LentFile> operator()() const {
    ++asked;
    page::LentFile file;
    file.fd = base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    file.lease = std::make_shared<int>(0);
    lease = file.lease;
    return file;
  }
  [[nodiscard]] bool is_lent() const { return !lease.expired(); }

  mutable int asked = 0;
  mutable std::weak_ptr<const void> lease;
};

absl::StatusOr<page::LentFile> refuse() { return absl::FailedPreconditionError("no"); }

}  // namespace

TEST_CASE("fusefs passthrough: the first open decides for those that come while it is open") {
  FakeKernel kernel;
  Passthrough passthrough(kernel);
  passthrough.enable();
  Lender lender;

  // One that is read by us keeps the others with us.
  CHECK(passthrough.enter(7, refuse) == 0);
  CHECK(passthrough.enter(7, lender) == 0);
  CHECK(lender.asked == 0);
  passthrough.leave(7);
  CHECK(passthrough.enter(7, lender) == 0);
  passthrough.leave(7);
  passthrough.leave(7);

  // And the other way round, with one file for all.
  const int32_t backing = passthrough.enter(7, lender);
  CHECK(backing > 0);
  CHECK(passthrough.enter(7, refuse) == backing);
  CHECK(passthrough.enter(7, refuse) == backing);
  CHECK(passthrough.enter(8, refuse) == 0);
  CHECK(passthrough.opens() == 3);
  passthrough.leave(7);
  passthrough.leave(7);
  CHECK(lender.is_lent());
  CHECK(kernel.lent.size() == 1);
  passthrough.leave(7);
  CHECK_FALSE(lender.is_lent());
  CHECK(kernel.lent.empty());
  CHECK(passthrough.enter(7, refuse) == 0);
}

TEST_CASE("fusefs passthrough: a kernel that refuses is not asked again") {
  FakeKernel kernel;
  Passthrough passthrough(kernel);
  passthrough.enable();
  Lender lender;
  const int32_t backing = passthrough.enter(7, lender);
  CHECK(backing > 0);
  kernel.error = EPERM;
  CHECK(passthrough.enter(8, lender) == 0);
  kernel.error = 0;
  CHECK(passthrough.enter(9, lender) == 0);
  CHECK(lender.asked == 2);
  // What is open stays as it is.
  CHECK(passthrough.enter(7, refuse) == backing);
  passthrough.leave(8);
  passthrough.leave(7);
  CHECK(kernel.lent.size() == 1);
  passthrough.leave(7);
  CHECK(kernel.lent.empty());
}

TEST_CASE("fusefs passthrough: a kernel that is short of something is asked again") {
  FakeKernel kernel;
  Passthrough passthrough(kernel);
  passthrough.enable();
  Lender lender;
  for (const int error : {ENOMEM, ENFILE, EMFILE, ENOSPC, EAGAIN}) {
    CAPTURE(error);
    kernel.error = error;
    CHECK(passthrough.enter(7, lender) == 0);
    CHECK_FALSE(lender.is_lent());
    kernel.error = 0;
    CHECK(passthrough.enter(8, lender) > 0);
    // All opens of an inode agree, also with the one that had bad luck.
    CHECK(passthrough.enter(7, lender) == 0);
    passthrough.leave(7);
    passthrough.leave(7);
    CHECK(passthrough.enter(7, lender) > 0);
    passthrough.leave(7);
    passthrough.leave(8);
  }
}

TEST_CASE("fusefs passthrough: what another process had open goes on as it was") {
  FakeKernel kernel;
  kernel.lent = {42};
  Passthrough passthrough(kernel);
  passthrough.enable();
  auto lease = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = lease;
  passthrough.restore(7, 42, std::move(lease));
  passthrough.restore(7, 42, nullptr);
  passthrough.restore(8, 0, nullptr);
  Lender lender;
  CHECK(passthrough.backing(7) == 42);
  CHECK(passthrough.backing(8) == 0);
  CHECK(passthrough.backing(9) == 0);
  CHECK(passthrough.enter(7, lender) == 42);
  CHECK(passthrough.enter(8, lender) == 0);
  CHECK(lender.asked == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(watched.expired());
    passthrough.leave(7);
  }
  CHECK(watched.expired());
  CHECK(kernel.lent.empty());
}

TEST_CASE(
    "fusefs passthrough: nothing is lent where the kernel did not agree, or the mount ended") {
  FakeKernel kernel;
  Passthrough passthrough(kernel);
  Lender lender;
  CHECK(passthrough.enter(7, lender) == 0);
  passthrough.leave(7);
  CHECK(lender.asked == 0);

  passthrough.enable();
  CHECK(passthrough.enter(7, lender) > 0);
  passthrough.clear();
  CHECK_FALSE(lender.is_lent());
  passthrough.leave(7);
}

}  // namespace blobcache::fusefs
