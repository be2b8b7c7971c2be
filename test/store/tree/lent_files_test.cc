// Files beneath files/ whose blobs are lent to who reads them without us.

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include "absl/time/clock.h"
#include "base/status.h"
#include "store/tree/files.h"
#include "store/tree/name_editor.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

FileRef open_a(TreeFixture& tree) {
  return tree.names().files().open(tree.names().resolve("files/a").value().id).value();
}

bool is_a_settled(TreeFixture& tree) { return tree.names().resolve("files/a").value().settled; }

}  // namespace

TEST_CASE("files: one whose blob is lent is not written to, and what may be written is not lent") {
  TreeFixture tree;
  tree.settle_after = absl::Milliseconds(20);
  tree.reopen();
  const std::string text(300'000, 'a');
  tree.put(text, "files/a");
  const auto lend = [&] {
    absl::StatusOr<page::LentFile> lent = absl::UnknownError("");
    // What memory alone vouches for is read back in the background.
    for (int tries = 0; tries < 1000 && !lent.ok(); ++tries) {
      FileRef file = open_a(tree);
      CHECK(TreeFixture::read_object(*file->content().object).value() == text);
      lent = file->lend_file();
      absl::SleepFor(absl::Milliseconds(5));
    }
    REQUIRE_MESSAGE(lent.ok(), lent.status().ToString());
    return *std::move(lent);
  };
  FileRef file = open_a(tree);
  {
    const page::LentFile lent = lend();
    CHECK(base::posix_errno_of(file->reserve_writing()) == ETXTBSY);
    CHECK(base::posix_errno_of(file->begin_writing()) == ETXTBSY);
    CHECK(file->lend_file().ok());
    CHECK(is_a_settled(tree));
  }
  CHECK(file->reserve_writing().ok());
  CHECK(absl::IsFailedPrecondition(open_a(tree)->lend_file().status()));
  file = open_a(tree);
  CHECK(file->lend_file().ok());
  // What begins to write without saying so before is a writer, too, until it has settled.
  CHECK(file->begin_writing().ok());
  CHECK(absl::IsFailedPrecondition(open_a(tree)->lend_file().status()));
  file.reset();
  for (int tries = 0; tries < 2000 && !is_a_settled(tree); ++tries) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  REQUIRE(is_a_settled(tree));
  const page::LentFile lent = lend();
  // Its names are its own business.
  CHECK(tree.names().editor().remove_file(tree.names().resolve("files")->id, "a").ok());
}

}  // namespace blobcache::tree
