// Files beneath files/ that are written to: what others see, how they settle, what a restart and a
// kill leave.

#include "store/tree/files.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "store/tree/name_editor.h"
#include "store/tree/volumes.h"
#include "test/store/tree/file_steps.h"
#include "test/store/tree/rebuild_fixture.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

bool is_settled(TreeFixture& tree, std::string_view path) {
  return tree.names().resolve(path).value().settled;
}

bool wait_until_settled(TreeFixture& tree, std::string_view path) {
  for (int tries = 0; tries < 2000 && !is_settled(tree, path); ++tries) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  return is_settled(tree, path);
}

size_t volumes_in_writing(const TreeFixture& tree) {
  std::set<std::string> volumes;
  for (const auto& file : std::filesystem::directory_iterator(tree.path() / "writing")) {
    volumes.insert(file.path().stem().string());
  }
  return volumes.size();
}

bool wait_for_volumes(const TreeFixture& tree, size_t count) {
  for (int tries = 0; tries < 2000 && volumes_in_writing(tree) != count; ++tries) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  return volumes_in_writing(tree) == count;
}

TEST_CASE("files: a new file is there from its creation, and once") {
  TreeFixture tree;
  const FileRef file = make_new(tree, "a");
  const Node node = tree.names().resolve("files/a").value();
  CHECK(node.type == NodeType::kFile);
  CHECK(node.size_bytes == 0);
  CHECK(node.mode == 0644);
  CHECK(node.gid == 2);
  CHECK_FALSE(node.settled);
  CHECK_FALSE(node.digest.has_value());
  const absl::Status again = tree.names().files().create(new_file("a")).status();
  CHECK(base::posix_errno_of(again) == EEXIST);
  CHECK(wait_for_volumes(tree, 1));
  CHECK(base::posix_errno_of(tree.names().files().create(new_file("b", 999)).status()) == ENOENT);
}

TEST_CASE("files: whoever has it open sees each write, and stat tells of it") {
  TreeFixture tree;
  const FileRef writer = make_new(tree, "a");
  const FileRef reader = open_file(tree, "files/a");
  tree.clock().advance(absl::Seconds(5));
  CHECK(write_file(*writer, 0, "hello").ok());
  CHECK(read_file(*reader) == "hello");
  CHECK(write_file(*writer, 3, "ping").ok());
  CHECK(read_file(*reader) == "helping");
  CHECK(write_file(*writer, 9, "x").ok());
  CHECK(read_file(*reader) == std::string("helping\0\0x", 10));
  const Node node = tree.names().resolve("files/a").value();
  CHECK(node.size_bytes == 10);
  CHECK(node.modified == tree.clock().now());
  CHECK(tree.names().list(kFilesNode, 0, 10)->front().node.size_bytes == 10);
  CHECK(absl::IsFailedPrecondition(write_file(*reader, 0, "no")));
  CHECK(set_length(*writer, 2).ok());
  CHECK(set_length(*writer, 4).ok());
  CHECK(read_file(*reader) == std::string("he\0\0", 4));
  CHECK(base::posix_errno_of(write_file(*writer, Files::kMaxLength, "x")) == EFBIG);
  CHECK(base::posix_errno_of(set_length(*writer, Files::kMaxLength + 1)) == EFBIG);
}

TEST_CASE("files: what is taken over settles when all that was open is open again") {
  TreeFixture tree;
  {
    const FileRef file = make_new(tree, "a");
    CHECK(write_file(*file, 0, "text").ok());
  }
  const base::Parcel parcel = tree.names().hand_over({}).value();
  tree.close();
  tree.settle_after = absl::ZeroDuration();
  tree.handed_over = &parcel;
  tree.open();
  absl::SleepFor(absl::Milliseconds(200));  // it has the time
  CHECK_FALSE(is_settled(tree, "files/a"));
  tree.names().end_take_over();
  CHECK(wait_until_settled(tree, "files/a"));
  CHECK(tree.read("files/a") == "text");
}

TEST_CASE("files: at rest it is a blob, with the same node; written to, it is none again") {
  TreeFixture tree;
  tree.settle_after = absl::Milliseconds(20);
  tree.reopen();
  const std::string content = content_of(3 * kMiB + 17, 1);
  NodeId id = 0;
  {
    const FileRef file = make_new(tree, "a");
    id = file->node().id;
    for (size_t at = 0; at < content.size(); at += 100'000) {
      CHECK(write_file(*file, at, std::string_view(content).substr(at, 100'000)).ok());
    }
  }
  const FileRef reader = open_file(tree, "files/a");
  REQUIRE(wait_until_settled(tree, "files/a"));
  Node node = tree.names().resolve("files/a").value();
  CHECK(node.id == id);
  CHECK(node.digest == digest_of(content));
  CHECK(node.size_bytes == content.size());
  CHECK(tree.read("files/a") == content);
  CHECK(read_file(*reader) == content);
  CHECK(wait_for_volumes(tree, 0));

  std::string changed = content;
  changed.replace(1'000'003, 5, "patch");
  {
    const FileRef file = open_to_write(tree, "files/a");
    CHECK(read_file(*file) == content);
    CHECK(write_file(*file, 1'000'003, "patch").ok());
    CHECK(read_file(*reader) == changed);
    CHECK_FALSE(is_settled(tree, "files/a"));
  }
  REQUIRE(wait_until_settled(tree, "files/a"));
  node = tree.names().resolve("files/a").value();
  CHECK(node.id == id);
  CHECK(node.digest == digest_of(changed));
  CHECK(tree.read("files/a") == changed);
  CHECK(wait_for_volumes(tree, 0));
}

TEST_CASE("files: other doors see what it holds when they open it") {
  TreeFixture tree;
  const FileRef file = make_new(tree, "a");
  CHECK(write_file(*file, 0, "one").ok());
  CHECK(tree.read("files/a") == "one");
  CHECK_FALSE(is_settled(tree, "files/a"));  // somebody writes to it
  CHECK(write_file(*file, 3, "two").ok());
  const page::ObjectRef object = tree.names().open(file->node().id).value();
  CHECK(write_file(*file, 0, "ONE").ok());
  CHECK(TreeFixture::read_object(*object).value() == "onetwo");
  CHECK(read_file(*file) == "ONEtwo");
  CHECK(tree.store().stats().disk_kept_bytes == 0);  // nobody asked for these to be kept
  {
    const FileRef other = make_new(tree, "b");
    CHECK(write_file(*other, 0, "bee").ok());
  }
  CHECK(tree.read("files/b") == "bee");
  CHECK(is_settled(tree, "files/b"));  // nobody does
}

TEST_CASE("files: what is open lives on without its name, and takes nothing along at the end") {
  TreeFixture tree;
  {
    const FileRef file = make_new(tree, "a");
    CHECK(write_file(*file, 0, "alive").ok());
    CHECK(tree.names().editor().remove_file(kFilesNode, "a").ok());
    CHECK(absl::IsNotFound(tree.names().resolve("files/a").status()));
    CHECK(write_file(*file, 5, "!").ok());
    CHECK(read_file(*file) == "alive!");
    CHECK(file->node().links == 0);
    CHECK(file->node().size_bytes == 6);
  }
  CHECK(wait_for_volumes(tree, 0));
  tree.put("blob", "files/b");
  {
    const FileRef file = open_file(tree, "files/b");
    CHECK(tree.names().editor().remove_file(kFilesNode, "b").ok());
    CHECK(file->begin_writing().ok());
    CHECK(write_file(*file, 0, "B").ok());
    CHECK(read_file(*file) == "Blob");
  }
  CHECK(wait_for_volumes(tree, 0));
  {
    const FileRef old = make_new(tree, "c");
    CHECK(write_file(*old, 0, "old").ok());
    {
      const FileRef fresh = make_new(tree, "d");
      CHECK(write_file(*fresh, 0, "new").ok());
    }
    CHECK(
        tree.names().editor().rename(kFilesNode, "d", kFilesNode, "c", RenameMode::kReplace).ok());
    CHECK(read_file(*old) == "old");
    CHECK(tree.read("files/c") == "new");
  }
  CHECK(wait_for_volumes(tree, 0));
}

TEST_CASE("files: what is removed or written over gives its room back") {
  TreeFixture tree;
  tree.settle_after = absl::Milliseconds(1);
  tree.reopen();
  const std::string content = content_of(kMiB, 5);
  for (int round = 0; round < 3; ++round) {
    {
      const FileRef file = round == 0 ? make_new(tree, "a") : open_to_write(tree, "files/a");
      CHECK(write_file(*file, static_cast<uint64_t>(round), content).ok());
    }
    REQUIRE(wait_until_settled(tree, "files/a"));
  }
  // The one that it is; what it was before may be evicted.
  const uint64_t kept = tree.store().stats().disk_kept_bytes;
  CHECK(kept >= kMiB);
  CHECK(kept < 2 * kMiB);
  CHECK(tree.names().editor().remove_file(kFilesNode, "a").ok());
  CHECK(tree.store().stats().disk_kept_bytes == 0);
  // One that has not settled, and never will in this test.
  tree.settle_after = absl::Hours(1);
  tree.reopen();
  {
    const FileRef file = make_new(tree, "b");
    CHECK(write_file(*file, 0, content).ok());
  }
  CHECK(tree.names().volumes().usage().used_bytes >= kMiB);
  CHECK(tree.names().editor().remove_file(kFilesNode, "b").ok());
  CHECK(tree.names().volumes().usage().used_bytes == 0);
  CHECK(wait_for_volumes(tree, 0));
  // A pin holds what a program removes.
  tree.put(content, "files/c");
  CHECK(tree.names().pin("files/c").ok());
  CHECK(tree.names().editor().remove_file(kFilesNode, "c").ok());
  CHECK(tree.store().stats().disk_kept_bytes >= kMiB);
}

TEST_CASE("files: a put or a bind takes the place of a file under writing") {
  TreeFixture tree;
  {
    const FileRef file = make_new(tree, "a");
    CHECK(write_file(*file, 0, "written").ok());
    tree.put("put", "files/a");
    CHECK(tree.read("files/a") == "put");
    CHECK(read_file(*file) == "written");
  }
  CHECK(wait_for_volumes(tree, 0));
  CHECK(tree.read("files/a") == "put");
}

TEST_CASE("files: a time that was set stays, through settling and a restart") {
  TreeFixture tree;
  tree.settle_after = absl::Milliseconds(20);
  tree.reopen();
  const absl::Time then = absl::FromUnixSeconds(981'173'106);
  {
    const FileRef file = make_new(tree, "a");
    CHECK(write_file(*file, 0, "x").ok());
    AttributeChange change;
    change.modified = then;
    CHECK(tree.names().editor().set_attributes(file->node().id, change).ok());
    CHECK(tree.names().resolve("files/a")->modified == then);
  }
  REQUIRE(wait_until_settled(tree, "files/a"));
  CHECK(tree.names().resolve("files/a")->modified == then);
  tree.reopen();
  CHECK(tree.names().resolve("files/a")->modified == then);
}

TEST_CASE("files: a restart takes over what had not settled") {
  TreeFixture tree;
  const std::string content = content_of(kMiB + 5, 2);
  const std::string base = content_of(2 * kMiB, 3);
  tree.put(base, "files/over");
  std::string changed = base;
  changed.replace(500'000, 6, "middle");
  {
    const FileRef fresh = make_new(tree, "fresh");
    CHECK(write_file(*fresh, 0, content).ok());
    const FileRef over = open_to_write(tree, "files/over");
    CHECK(write_file(*over, 500'000, "middle").ok());
    const FileRef removed = make_new(tree, "removed");
    CHECK(tree.names().editor().remove_file(kFilesNode, "removed").ok());
  }
  tree.reopen();
  CHECK(tree.names().resolve("files/fresh")->size_bytes == content.size());
  CHECK(read_file(*open_file(tree, "files/fresh")) == content);
  CHECK(read_file(*open_file(tree, "files/over")) == changed);
  tree.settle_after = absl::ZeroDuration();
  tree.reopen();
  REQUIRE(wait_until_settled(tree, "files/fresh"));
  REQUIRE(wait_until_settled(tree, "files/over"));
  CHECK(tree.read("files/fresh") == content);
  CHECK(tree.read("files/over") == changed);
  CHECK(wait_for_volumes(tree, 0));
}

TEST_CASE("files: a kill takes nothing that was answered") {
  TreeFixture tree;
  tree.put("base content", "files/over");
  tree.close();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // A process of its own, which ends as by a kill.
    tree.open();
    const FileRef fresh = tree.names().files().create(new_file("fresh")).value();
    const FileRef over = open_file(tree, "files/over");
    const bool done = over->begin_writing().ok() && write_file(*over, 5, "CONTENT").ok() &&
                      write_file(*fresh, 0, "fresh content").ok() && set_length(*fresh, 5).ok() &&
                      tree.names().files().create(new_file("empty")).ok() &&
                      tree.names()
                          .editor()
                          .rename(kFilesNode, "fresh", kFilesNode, "renamed", RenameMode::kReplace)
                          .ok();
    ::_exit(done ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  tree.open();
  CHECK(read_file(*open_file(tree, "files/over")) == "base CONTENT");
  CHECK(read_file(*open_file(tree, "files/renamed")) == "fresh");
  CHECK(read_file(*open_file(tree, "files/empty")).empty());
  CHECK(absl::IsNotFound(tree.names().resolve("files/fresh").status()));
  CHECK(tree.read("files/renamed") == "fresh");
}

TEST_CASE("files: a sync is cheap, and there for a file that is settled, too") {
  TreeFixture tree;
  const FileRef file = make_new(tree, "a");
  CHECK(write_file(*file, 0, "x").ok());
  CHECK(sync_file(*file).ok());
  tree.put("y", "files/b");
  CHECK(sync_file(*open_file(tree, "files/b")).ok());
}

TEST_CASE("files: what is no file cannot be opened as one") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put("x", "files/a");
  Files& files = tree.names().files();
  CHECK(base::posix_errno_of(files.open(kFilesNode).status()) == EINVAL);
  CHECK(base::posix_errno_of(files.open(12345).status()) == ESTALE);
  const NodeId by_digest = tree.names().resolve(blob_path(blob.key)).value().id;
  CHECK(base::posix_errno_of(files.open(by_digest).status()) == EINVAL);
  const Node directory = tree.names()
                             .editor()
                             .make_directory({.parent = kFilesNode, .name = "d", .mode = 0755})
                             .value();
  CHECK(base::posix_errno_of(files.open(directory.id).status()) == EISDIR);
}

TEST_CASE("files: a rebuild brings back what was being written, under another name") {
  TreeFixture tree;
  tree.put("base content", "files/dir/over");
  {
    const FileRef over = open_to_write(tree, "files/dir/over");
    CHECK(write_file(*over, 5, "CONTENT").ok());
    const FileRef fresh = make_new(tree, "fresh");
    CHECK(write_file(*fresh, 0, "fresh content").ok());
  }
  lose_catalog(tree);
  const Outcome outcome = rebuild(tree);
  REQUIRE_MESSAGE(outcome.summary.ok(), outcome.summary.status().ToString());
  CHECK(outcome.summary->names_lost == 2);
  CHECK(outcome.summary->left_out == 0);
  CHECK(outcome.lines.size() == 2);
  tree.open();
  // What it was before has its name still.
  CHECK(tree.read("files/dir/over") == "base content");
  std::set<std::string> contents;
  for (const std::string& name : tree.list("files/lost+found")) {
    contents.insert(read_file(*open_file(tree, "files/lost+found/" + name)));
  }
  CHECK(contents == std::set<std::string>{"base CONTENT", "fresh content"});
}

TEST_CASE("files: writers, readers and settling at the same time") {
  constexpr int kRounds = 60;
  constexpr size_t kSize = 300'000;
  TreeFixture tree;
  tree.settle_after = absl::ZeroDuration();
  tree.reopen();
  {
    const FileRef made = make_new(tree, "a");
  }
  std::atomic<bool> over{false};
  std::atomic<bool> whole{false};  // from then on it is as long as it will ever be
  // Each round writes the whole file with one letter; a reader never sees two besides the one that
  // is just being written, in order.
  std::thread writer([&] {
    for (int round = 0; round < kRounds; ++round) {
      const FileRef file = open_to_write(tree, "files/a");
      const std::string text(kSize, static_cast<char>('a' + round % 26));
      CHECK(write_file(*file, 0, text).ok());
      whole = true;
      if (round % 7 == 0) absl::SleepFor(absl::Milliseconds(3));
    }
    over = true;
  });
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!over) {
        const bool was_whole = whole;
        const uint64_t length = tree.names().resolve("files/a")->size_bytes;
        if (was_whole) CHECK(length == kSize);
        const std::string text = read_file(*open_file(tree, "files/a"));
        const std::string by_door = tree.read("files/a");
        for (const std::string& seen : {text, by_door}) {
          const std::set<char> letters(seen.begin(), seen.end());
          CHECK(letters.size() <= 2);
          CHECK(seen.size() <= kSize);
        }
      }
    });
  }
  writer.join();
  for (std::thread& reader : readers) reader.join();
  const std::string last(kSize, static_cast<char>('a' + (kRounds - 1) % 26));
  CHECK(tree.read("files/a") == last);
  REQUIRE(wait_until_settled(tree, "files/a"));
  CHECK(tree.read("files/a") == last);
  CHECK(wait_for_volumes(tree, 0));
}

}  // namespace
}  // namespace blobcache::tree
