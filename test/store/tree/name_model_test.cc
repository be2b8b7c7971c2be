// Names beneath files/ against a model in memory: thousands of changes by chance, each with the
// same outcome in both.

#include <doctest/doctest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "store/tree/impl/node_ids.h"
#include "store/tree/name_editor.h"
#include "test/store/tree/rebuild_fixture.h"

namespace blobcache::tree {
namespace {

/// What a name stands for in the model.
struct Thing {
  NodeType type = NodeType::kDirectory;
  NodeId node = 0;
  std::string content;  ///< a file's bytes, what a link says
  mode_t mode = 0;
  std::map<std::string, std::shared_ptr<Thing>> names;
  Thing* parent = nullptr;  ///< of a directory
  uint32_t links = 0;
};
using ThingRef = std::shared_ptr<Thing>;

bool is_directory(const ThingRef& thing) { return thing->type == NodeType::kDirectory; }

bool lies_within(const Thing* thing, const Thing* other) {
  for (; thing != nullptr; thing = thing->parent) {
    if (thing == other) return true;
  }
  return false;
}

/// As rename(2) has it, straight from its manual.
int model_rename(Thing& from, const std::string& name, Thing& to, const std::string& new_name,
                 RenameMode mode) {
  const auto source = from.names.find(name);
  if (source == from.names.end()) return ENOENT;
  const ThingRef moved = source->second;
  const auto target = to.names.find(new_name);
  const ThingRef other = target == to.names.end() ? nullptr : target->second;
  if (mode == RenameMode::kNoReplace && other != nullptr) return EEXIST;
  if (mode == RenameMode::kExchange && other == nullptr) return ENOENT;
  if (is_directory(moved) && lies_within(&to, moved.get())) return EINVAL;
  const bool exchange = mode == RenameMode::kExchange;
  if (exchange && is_directory(other) && lies_within(&from, other.get())) return EINVAL;
  if (!exchange && other != nullptr && other != moved) {
    if (is_directory(moved) && !is_directory(other)) return ENOTDIR;
    if (!is_directory(moved) && is_directory(other)) return EISDIR;
    if (is_directory(other) && !other->names.empty()) return ENOTEMPTY;
  }
  if (other == moved) return 0;
  if (other != nullptr && !exchange) --other->links;
  from.names.erase(name);
  if (exchange) from.names[name] = other;
  to.names[new_name] = moved;
  if (is_directory(moved)) moved->parent = &to;
  if (exchange && is_directory(other)) other->parent = &from;
  return 0;
}

/// A tree and its model, changed together.
class ModelledTree : public TreeFixture {
 public:
  explicit ModelledTree(uint64_t seed) : random_(seed) { root_->node = kFilesNode; }

  void step() {
    clock().advance(absl::Seconds(1));
    switch (below(9)) {
      case 0:
      case 1:
        return make(NodeType::kDirectory);
      case 2:
        return make(NodeType::kSymlink);
      case 3:
        return put_file();
      case 4:
        return link();
      case 5:
        return remove(true);
      case 6:
        return remove(false);
      case 7:
        return set_mode();
      default:
        return rename();
    }
  }

  void check_same() {
    size_t names = 0;
    compare(*root_, names);
    CHECK(this->names().counts()->names == names);
  }

  /// What a rebuild finds.
  Picture expected_files() {
    Picture picture;
    describe(*root_, "files", picture);
    return picture;
  }

 private:
  size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  std::string any_name() { return std::string(1, static_cast<char>('a' + below(4))); }
  ThingRef any_directory() {
    std::vector<ThingRef> all{root_};
    for (size_t i = 0; i < all.size(); ++i) {
      for (const auto& [name, thing] : all[i]->names) {
        if (is_directory(thing)) all.push_back(thing);
      }
    }
    return all[below(all.size())];
  }
  NameEditor& editor() { return names().editor(); }
  static int error_of(const absl::Status& status) {
    return status.ok() ? 0 : base::posix_errno_of(status).value_or(-1);
  }

  void make(NodeType type) {
    const ThingRef parent = any_directory();
    const std::string name = any_name();
    const NewName made{parent->node, name, static_cast<mode_t>(0700 + below(64)), 0, 0};
    const std::string target = "to " + name;
    const absl::StatusOr<Node> node = type == NodeType::kDirectory
                                          ? editor().make_directory(made)
                                          : editor().make_symlink(made, target);
    REQUIRE(error_of(node.status()) == (parent->names.contains(name) ? EEXIST : 0));
    if (!node.ok()) return;
    auto thing = std::make_shared<Thing>();
    thing->type = type;
    thing->node = node->id;
    thing->mode = type == NodeType::kDirectory ? made.mode : 0777;
    if (type == NodeType::kSymlink) thing->content = target;
    thing->parent = parent.get();
    thing->links = 1;
    parent->names[name] = thing;
  }

  void put_file() {
    const ThingRef parent = any_directory();
    const std::string name = any_name();
    const auto old = parent->names.find(name);
    if (old != parent->names.end() && is_directory(old->second)) return;
    const std::string content = "content " + std::to_string(below(5));
    const std::string path = path_of(*parent) + "/" + name;
    put(content, path);
    if (old != parent->names.end()) --old->second->links;
    auto thing = std::make_shared<Thing>();
    thing->type = NodeType::kFile;
    thing->node = names().resolve(path)->id;
    thing->mode = 0644;
    thing->content = content;
    thing->links = 1;
    parent->names[name] = thing;
  }

  std::string path_of(const Thing& directory) {
    if (directory.parent == nullptr) return "files";
    for (const auto& [name, thing] : directory.parent->names) {
      if (thing.get() == &directory) return path_of(*directory.parent) + "/" + name;
    }
    return "";
  }

  void link() {
    const ThingRef from = any_directory();
    const ThingRef to = any_directory();
    const std::string name = any_name();
    const auto file = from->names.find(any_name());
    if (file == from->names.end()) return;
    const absl::StatusOr<Node> node = editor().link(file->second->node, to->node, name);
    const int expected = is_directory(file->second) ? EPERM : to->names.contains(name) ? EEXIST : 0;
    REQUIRE(error_of(node.status()) == expected);
    if (!node.ok()) return;
    to->names[name] = file->second;
    CHECK(node->links == ++file->second->links);
  }

  void remove(bool directory) {
    const ThingRef parent = any_directory();
    const std::string name = any_name();
    const auto found = parent->names.find(name);
    int expected = 0;
    if (found == parent->names.end()) {
      expected = ENOENT;
    } else if (directory != is_directory(found->second)) {
      expected = directory ? ENOTDIR : EISDIR;
    } else if (directory && !found->second->names.empty()) {
      expected = ENOTEMPTY;
    }
    REQUIRE(error_of(directory ? editor().remove_directory(parent->node, name)
                               : editor().remove_file(parent->node, name)) == expected);
    if (expected != 0) return;
    --found->second->links;
    parent->names.erase(found);
  }

  void set_mode() {
    const ThingRef parent = any_directory();
    const auto found = parent->names.find(any_name());
    if (found == parent->names.end()) return;
    found->second->mode = static_cast<mode_t>(0600 + below(64));
    AttributeChange change;
    change.mode = found->second->mode;
    REQUIRE(editor().set_attributes(found->second->node, change).ok());
  }

  void rename() {
    const ThingRef from = any_directory();
    const ThingRef to = any_directory();
    const std::string name = any_name();
    const std::string new_name = any_name();
    const auto mode = static_cast<RenameMode>(below(3));
    INFO(path_of(*from), "/", name, " to ", path_of(*to), "/", new_name, " ",
         static_cast<int>(mode));
    const int happened = error_of(editor().rename(from->node, name, to->node, new_name, mode));
    REQUIRE(happened == model_rename(*from, name, *to, new_name, mode));
  }

  void compare(Thing& directory, size_t& named) {
    std::map<std::string, Node> seen;
    const std::vector<NamedNode> entries = names().list(directory.node, 0, 100).value();
    for (const NamedNode& entry : entries) {
      REQUIRE(seen.emplace(entry.name, entry.node).second);
    }
    REQUIRE(seen.size() == directory.names.size());
    for (const auto& [name, thing] : directory.names) {
      REQUIRE(seen.contains(name));
      const Node& node = seen.at(name);
      CHECK(node.id == thing->node);
      CHECK(node.type == thing->type);
      CHECK(node.mode == thing->mode);
      if (node.type == NodeType::kDirectory) {
        compare(*thing, named);
        continue;
      }
      CHECK(node.links == thing->links);
      CHECK(node.size_bytes == thing->content.size());
      if (node.type == NodeType::kSymlink) {
        CHECK(editor().read_symlink(node.id).value() == thing->content);
        continue;
      }
      ++named;
      CHECK(node.digest == digest_of(thing->content));
    }
  }

  void describe(Thing& directory, const std::string& path, Picture& picture) {
    for (const auto& [name, thing] : directory.names) {
      const std::string at = path + "/" + name;
      if (thing->type == NodeType::kDirectory) describe(*thing, at, picture);
      if (thing->type != NodeType::kFile) continue;
      picture[at] = fmt::format("{} {:o}", digest_of(thing->content).hex(), thing->mode);
    }
  }

  std::mt19937_64 random_;
  const ThingRef root_ = std::make_shared<Thing>();
};

void look_for_files(Namespace& names, const std::string& path, Picture& picture) {
  const std::vector<NamedNode> entries = names.list(names.resolve(path)->id, 0, 100).value();
  for (const NamedNode& entry : entries) {
    const std::string at = path + "/" + entry.name;
    if (entry.node.type == NodeType::kDirectory) look_for_files(names, at, picture);
    if (!entry.node.digest) continue;
    picture[at] = fmt::format("{} {:o}", entry.node.digest->hex(), entry.node.mode);
  }
}

TEST_CASE("name model: changes by chance, restarts among them, and the same in the end") {
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}, uint64_t{3}}) {
    INFO(seed);
    ModelledTree tree(seed);
    for (int i = 0; i < 1500; ++i) {
      tree.step();
      if (i % 100 == 99) tree.check_same();
      if (i % 500 == 250) {
        tree.reopen();
        tree.check_same();
      }
    }
    // What the blobs' files tell has kept up with all of it.
    const Picture before = tree.expected_files();
    lose_catalog(tree);
    rebuild_whole(tree);
    tree.open();
    Picture after;
    look_for_files(tree.names(), "files", after);
    CHECK(after == before);
  }
}

}  // namespace
}  // namespace blobcache::tree
