#include "test/store/tree/power_cut.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include "test/store/tree/sync_recorder.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// What a disk writes whole.
constexpr size_t kSector = 512;

struct Entry {
  uint64_t inode = 0;
  bool directory = false;
};
using Names = std::map<std::string, Entry>;

std::string content_at(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Entry entry_at(const fs::path& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) throw std::runtime_error("cannot see " + path.string());
  return {info.st_ino, S_ISDIR(info.st_mode)};
}

Names names_now(const fs::path& directory) {
  Names names;
  if (!fs::exists(directory)) return names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names[entry.path().filename().string()] = entry_at(entry.path());
  }
  return names;
}

/// None for a directory that was never synced.
Names durable_names(const fs::path& record) {
  Names names;
  std::ifstream file(record);
  Entry entry;
  char kind = 0;
  std::string name;
  while (file >> entry.inode >> kind && file.ignore() && std::getline(file, name)) {
    entry.directory = kind == 'd';
    names[name] = entry;
  }
  return names;
}

class Cut {
 public:
  explicit Cut(const PowerCut& cut)
      : cut_(cut), random_(cut.seed), share_(std::uniform_real_distribution(0.05, 0.95)(random_)) {}

  /// `now` is where the directory is in the store; it may be gone.
  void write_directory(uint64_t inode, const fs::path& now, const fs::path& to) {
    const Names durable = durable_names(names_of(cut_.record, inode));
    const Names current = names_now(now);
    fs::create_directory(to);
    std::set<std::string> all;
    for (const auto& [name, entry] : durable) all.insert(name);
    for (const auto& [name, entry] : current) all.insert(name);
    for (const std::string& name : all) {
      const std::optional<Entry> entry = survivor(find(durable, name), find(current, name));
      if (!entry) continue;
      if (entry->directory) {
        write_directory(entry->inode, now / name, to / name);
      } else {
        write_content(entry->inode, now / name, to / name);
      }
    }
  }

 private:
  static std::optional<Entry> find(const Names& names, const std::string& name) {
    const auto at = names.find(name);
    return at == names.end() ? std::nullopt : std::optional(at->second);
  }

  [[nodiscard]] bool keeps() {
    if (cut_.unsynced != Unsynced::kRandom) return cut_.unsynced == Unsynced::kKept;
    return std::bernoulli_distribution(share_)(random_);
  }

  std::optional<Entry> survivor(std::optional<Entry> durable, std::optional<Entry> current) {
    return keeps() ? current : durable;
  }

  void write_content(uint64_t inode, const fs::path& now, const fs::path& to) {
    const fs::path copy = data_of(cut_.record, inode);
    const std::string durable = fs::exists(copy) ? content_at(copy) : std::string();
    const fs::path link = link_of(cut_.record, inode);
    const std::string current = content_at(fs::exists(link) ? link : now);
    std::string content = durable;
    content.resize(std::max(durable.size(), current.size()));
    for (size_t at = 0; at < current.size(); at += kSector) {
      const size_t length = std::min(kSector, current.size() - at);
      if (keeps()) content.replace(at, length, current, at, length);
    }
    content.resize(keeps() ? current.size() : durable.size());
    std::ofstream file(to, std::ios::binary);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + to.string());
  }

  const PowerCut& cut_;
  std::mt19937_64 random_;
  const double share_;  ///< of what was not synced that is kept
};

}  // namespace

void cut_power(const PowerCut& cut, const fs::path& to) {
  Cut(cut).write_directory(entry_at(cut.store).inode, cut.store, to);
}

}  // namespace blobcache::tree
