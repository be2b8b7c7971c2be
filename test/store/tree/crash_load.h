#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "test/store/tree/sync_recorder.h"

namespace blobcache::tree {

/// What content_of() makes the bytes of a blob from.
struct Content {
  size_t size = 0;
  uint32_t seed = 0;
};

/// One change of the tree. Value type.
struct Change {
  std::string kind;  ///< "put", "bind", "rm" (a name), "forget" (a blob)
  std::string name;  ///< "files/..."; "-" for none
  std::string hex;   ///< the blob; "-" for none
  Content content;   ///< of a put
};

/// The names and blobs that a store must have.
struct StoreModel {
  std::map<std::string, std::string> names;  ///< to the digest, in hex
  std::map<std::string, Content> blobs;      ///< by digest, in hex

  void apply(const Change& change);
};

/// What a killed load has said: what was answered is in `done`, the rest may be there or not.
struct Answers {
  StoreModel done;
  std::vector<Change> pending;  ///< at most one a thread, each of other names and blobs
  size_t answered = 0;
  bool killed = false;  ///< false: the load ended by itself, which it does for an error alone
};

struct LoadOptions {
  RecordOptions record;
  uint64_t seed = 0;
  uint64_t kill_after_answers = 0;  ///< unless record.die_at_sync comes first
  int64_t kill_after_us = 0;        ///< after the last of these answers
};

/// Opens the store in a child and has some threads put, bind and remove there, with its syncs
/// recorded, until it is killed. `model` is what the store holds at the start.
[[nodiscard]] Answers load_until_killed(const StoreModel& model, const LoadOptions& options);

}  // namespace blobcache::tree
