#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "store/tree/files.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {

// What tests do with files beneath files/, each step waited for.

inline NewName new_file(std::string_view name, NodeId parent = kFilesNode) {
  return {.parent = parent, .name = name, .mode = 0644, .uid = 0, .gid = 2};
}

template <typename Call>
absl::Status wait_for_done(Call call) {
  absl::Notification over;
  absl::Status result;
  call([&](absl::Status status) {
    result = std::move(status);
    over.Notify();
  });
  over.WaitForNotification();
  return result;
}

inline absl::Status write_file(File& file, uint64_t offset, std::string_view text) {
  return wait_for_done(
      [&](volume::Done done) { file.write(offset, bytes_of(text), std::move(done)); });
}

inline absl::Status set_length(File& file, uint64_t length) {
  return wait_for_done([&](volume::Done done) { file.set_length(length, std::move(done)); });
}

inline absl::Status sync_file(File& file) {
  return wait_for_done([&](volume::Done done) { file.sync(std::move(done)); });
}

/// All of it, as a door that writes has it.
inline std::string read_file(File& file) {
  const File::Content content = file.content();
  if (content.object != nullptr) return TreeFixture::read_object(*content.object).value();
  std::string text(content.image->size_bytes(), '?');
  if (text.empty()) return text;
  const auto into = absl::MakeSpan(text.data(), text.size());
  const absl::Status status = wait_for_done([&](volume::Done done) {
    content.image->read(0, {reinterpret_cast<std::byte*>(into.data()), into.size()},
                        std::move(done));
  });
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return text;
}

inline FileRef make_new(TreeFixture& tree, std::string_view name, NodeId parent = kFilesNode) {
  absl::StatusOr<FileRef> file = tree.names().files().create(new_file(name, parent));
  REQUIRE_MESSAGE(file.ok(), file.status().ToString());
  return *std::move(file);
}

inline FileRef open_file(TreeFixture& tree, std::string_view path) {
  absl::StatusOr<FileRef> file = tree.names().files().open(tree.names().resolve(path).value().id);
  REQUIRE_MESSAGE(file.ok(), file.status().ToString());
  return *std::move(file);
}

inline FileRef open_to_write(TreeFixture& tree, std::string_view path) {
  FileRef file = open_file(tree, path);
  const absl::Status status = file->begin_writing();
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return file;
}

}  // namespace blobcache::tree
