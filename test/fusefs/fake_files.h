#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/tree/files.h"
#include "store/tree/name_editor.h"
#include "test/fusefs/fake_tree.h"

namespace blobcache::fusefs {

/// The names of a FakeTree as a file system changes them. Thread-safe.
class FakeEditor final : public tree::NameEditor {
 public:
  explicit FakeEditor(FakeTree& tree) : tree_(tree) {}

  [[nodiscard]] uint64_t syncs() const { return syncs_; }

  absl::StatusOr<tree::Node> make_directory(const tree::NewName& name) override;
  absl::StatusOr<tree::Node> make_symlink(const tree::NewName& name,
                                          std::string_view target) override;
  absl::StatusOr<std::string> read_symlink(tree::NodeId node) override;
  absl::Status remove_file(tree::NodeId parent, std::string_view name) override;
  absl::Status remove_directory(tree::NodeId parent, std::string_view name) override;
  absl::Status rename(tree::NodeId from, std::string_view name, tree::NodeId to,
                      std::string_view new_name, tree::RenameMode mode) override;
  absl::StatusOr<tree::Node> link(tree::NodeId file, tree::NodeId parent,
                                  std::string_view name) override;
  absl::StatusOr<tree::Node> set_attributes(tree::NodeId node,
                                            const tree::AttributeChange& change) override;
  absl::Status sync() override;

 private:
  friend class FakeFiles;

  [[nodiscard]] absl::StatusOr<tree::Node> make(const tree::NewName& name, FakeEntry entry);
  [[nodiscard]] absl::Status remove(tree::NodeId parent, std::string_view name, bool directory);
  // With the tree's mutex held, which cannot be said here, where the tree is not known.
  [[nodiscard]] absl::Status rename_locked(tree::NodeId from, std::string_view name,
                                           tree::NodeId to, std::string_view new_name,
                                           tree::RenameMode mode) ABSL_NO_THREAD_SAFETY_ANALYSIS;
  [[nodiscard]] bool contains(tree::NodeId directory,
                              tree::NodeId node) ABSL_NO_THREAD_SAFETY_ANALYSIS;

  FakeTree& tree_;
  std::atomic<uint64_t> syncs_{0};
};

/// A file of a FakeTree that is open.
class FakeFile final : public tree::File {
 public:
  FakeFile(FakeTree& tree, std::shared_ptr<FakeEntry> entry);

  Content content() const override;
  tree::Node node() const override;
  absl::Status begin_writing() override;
  absl::StatusOr<page::LentFile> lend_file() override;
  std::shared_ptr<const void> keep_lent() override { return nullptr; }
  absl::Status reserve_writing() override { return absl::OkStatus(); }
  bool is_writing() const override;
  void write(uint64_t offset, absl::Span<const std::byte> bytes, volume::Done done) override;
  void append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                    volume::Done done) override;
  void set_length(uint64_t length, volume::Done done) override;
  void sync(volume::Done done) override;

 private:
  [[nodiscard]] std::shared_ptr<FakeImage> image() const;
  /// `done`, once everybody has been told of the change.
  [[nodiscard]] volume::Done telling(uint64_t offset, uint64_t length, volume::Done done);

  FakeTree& tree_;
  const std::shared_ptr<FakeEntry> entry_;
};

/// The files of a FakeTree. Thread-safe.
class FakeFiles final : public tree::Files {
 public:
  explicit FakeFiles(FakeTree& tree) : tree_(tree) {}

  absl::StatusOr<tree::FileRef> create(const tree::NewName& name) override;
  absl::StatusOr<tree::FileRef> open(tree::NodeId node) override;

 private:
  FakeTree& tree_;
  absl::Mutex mutex_;  // taken before the tree's
  std::map<tree::NodeId, std::weak_ptr<FakeFile>> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
