#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/xattr.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "store/tree/rebuild.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {

inline constexpr const char* kAttribute = "user.blobcache";

/// What a person sees of a tree: every file's digest, size, owner, mode and time.
using Picture = std::map<std::string, std::string>;

inline void look(Namespace& names, const std::string& path, Picture& picture) {
  const Node directory = names.resolve(path).value();
  for (uint64_t cookie = 0;;) {
    const std::vector<NamedNode> entries = names.list(directory.id, cookie, 100).value();
    if (entries.empty()) return;
    for (const NamedNode& entry : entries) {
      const std::string name = path + "/" + entry.name;
      const Node& node = entry.node;
      // blobs/ shows when a blob was put, which is the file's time afterwards.
      const bool timed = path != "blobs" && node.digest;
      picture[name] = fmt::format("{} {} {} {} {:o} {}", node.digest ? node.digest->hex() : "-",
                                  node.size_bytes, node.uid, node.gid, node.mode,
                                  timed ? absl::ToUnixNanos(node.modified) : 0);
      if (!node.digest) look(names, name, picture);
    }
    cookie = entries.back().cookie;
  }
}

inline Picture picture_of(TreeFixture& tree) {
  Picture picture;
  look(tree.names(), "files", picture);
  look(tree.names(), "blobs", picture);
  return picture;
}

inline void lose_catalog(TreeFixture& tree) {
  tree.close();
  for (const char* name : {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"}) {
    std::filesystem::remove(tree.path() / name);
  }
}

struct Outcome {
  absl::StatusOr<RebuildSummary> summary;
  std::vector<std::string> lines;
};

inline Outcome rebuild(TreeFixture& tree) {
  Outcome outcome;
  RebuildOptions options;
  options.path = tree.path();
  options.report = [&](std::string_view line) { outcome.lines.emplace_back(line); };
  options.clock = [&tree] { return tree.clock().now(); };
  outcome.summary = rebuild_catalog(options);
  return outcome;
}

inline RebuildSummary rebuild_whole(TreeFixture& tree) {
  const Outcome outcome = rebuild(tree);
  REQUIRE_MESSAGE(outcome.summary.ok(), outcome.summary.status().ToString());
  for (const std::string& line : outcome.lines) MESSAGE(line);
  CHECK(outcome.lines.empty());
  CHECK(outcome.summary->complete());
  return *outcome.summary;
}

inline std::filesystem::path file_of(TreeFixture& tree, const page::ObjectKey& key) {
  for (const auto& entry :
       std::filesystem::directory_iterator(tree.path() / "objects" / key.hex().substr(0, 2))) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(key.hex()) && name.find('.') == name.rfind('.')) return entry.path();
  }
  return {};
}

inline std::string description_of(TreeFixture& tree, const page::ObjectKey& key) {
  std::string text(4096, '\0');
  const ssize_t size = ::getxattr(file_of(tree, key).c_str(), kAttribute, text.data(), text.size());
  text.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return text;
}

inline void set_description(TreeFixture& tree, const page::ObjectKey& key,
                            const std::string& text) {
  REQUIRE(::setxattr(file_of(tree, key).c_str(), kAttribute, text.data(), text.size(), 0) == 0);
}

inline void put_as(TreeFixture& tree, std::string_view content, std::string_view path,
                   Creator creator) {
  auto writer = tree.names().put(path, creator, content.size()).value();
  REQUIRE(writer->append(bytes_of(content)).ok());
  REQUIRE(writer->commit().ok());
  tree.clock().advance(absl::Seconds(1));
}

/// Where the blob's names file is, if it has one.
inline std::filesystem::path names_file_of(TreeFixture& tree, const page::ObjectKey& key) {
  return file_of(tree, key).string() + ".names";
}

/// The next start takes the last one for killed.
inline void close_as_killed(TreeFixture& tree) {
  tree.close();
  // What a kill leaves: the log.
  std::ofstream(tree.path() / "catalog.sqlite-wal") << "";
}

}  // namespace blobcache::tree
