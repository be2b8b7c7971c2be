#include "net/impl/nbd_tree.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_image.h"
#include "net/impl/nbd_wire.h"
#include "store/page/object_key.h"
#include "store/tree/digest.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

std::string last_component(const std::string& export_name) {
  return export_name.substr(export_name.rfind('/') + 1);
}

std::shared_ptr<NbdResolver> resolver(const base::NbdUrl& url, NbdResolver::LookUp look_up) {
  if (!url.socket.empty() || NbdResolver::is_address(url.host)) return nullptr;
  return std::make_shared<NbdResolver>(url.host, std::move(look_up));
}

tree::OriginEntry directory(const std::string& name) {
  tree::OriginEntry entry;
  entry.name = name;
  entry.kind = tree::OriginEntry::Kind::kDirectory;
  return entry;
}

absl::Status nothing(std::string_view path) {
  return absl::NotFoundError(fmt::format("{}: no such export", tree::printable(path)));
}

absl::Status not_a_file(std::string_view path) {
  return absl::FailedPreconditionError(fmt::format("{}: a directory", tree::printable(path)));
}

absl::Status ends() { return absl::CancelledError("the daemon ends"); }

/// Names can be asked for all the same.
bool is_unlisted(const absl::Status& status) {
  return absl::IsUnimplemented(status) || absl::IsResourceExhausted(status);
}

}  // namespace

/// One of the connections that ask, for as long as it lives. Waits for one.
class NbdTree::ProbeSlot {
 public:
  explicit ProbeSlot(NbdTree& tree) : tree_(tree) {
    const absl::MutexLock lock(&tree_.mutex_);
    // Each of those before it is given up in time.
    tree_.mutex_.Await(absl::Condition(this, &ProbeSlot::is_room));
    ++tree_.probes_;
  }
  ~ProbeSlot() {
    const absl::MutexLock lock(&tree_.mutex_);
    --tree_.probes_;
  }
  ProbeSlot(const ProbeSlot&) = delete;
  ProbeSlot& operator=(const ProbeSlot&) = delete;

 private:
  [[nodiscard]] bool is_room() const ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return tree_.probes_ < kMaxProbes || tree_.is_stopped();
  }
  NbdTree& tree_;
};

NbdTree::NbdTree(const NbdOriginOptions& options, const base::NbdUrl& url,
                 NbdResolver::LookUp look_up)
    : options_(options),
      target_{url, options.tls_certificates, options.tls_psk, resolver(url, std::move(look_up))},
      url_(url.to_string()),
      only_(last_component(url.export_name)),
      vitals_(std::make_shared<OriginVitals>(fmt::format("origin {} ({})", options.name, url_))),
      loop_(std::make_shared<NbdLoop>()) {}

NbdTree::~NbdTree() { loop_->stop(); }

void NbdTree::stop() {
  {
    const absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  loop_->end_by(absl::Now() + kGrace);
}

page::ObjectKey NbdTree::lasting_key(const std::string& export_name, uint64_t size) const {
  // NUL stands in none of them, so that no two read alike.
  const std::string text = fmt::format("blobcache nbd origin{0}{1}{0}{2}{0}{3}{0}{4}", '\0',
                                       options_.name, url_, export_name, size);
  tree::Sha256 hash;
  hash.update(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
  return hash.finish();
}

tree::OriginEntry NbdTree::entry(std::string_view name, const NbdExportInfo& info,
                                 const std::string& export_name) const {
  tree::OriginEntry entry;
  entry.name = std::string(name);
  entry.kind = options_.read_only || info.read_only ? tree::OriginEntry::Kind::kFile
                                                    : tree::OriginEntry::Kind::kImage;
  entry.size_bytes = info.size_bytes;
  if (options_.immutable) entry.version = lasting_key(export_name, info.size_bytes);
  return entry;
}

std::shared_ptr<NbdSession> NbdTree::session(const std::string& export_name) {
  const absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(export_name);
  if (found == sessions_.end()) return nullptr;
  std::shared_ptr<NbdSession> session = found->second.lock();
  if (session && session->broken().ok()) return session;
  sessions_.erase(found);
  return nullptr;
}

/// Health is of the server: that it has not what was asked for says that it is there.
void NbdTree::tell(const absl::Status& status) {
  if (absl::IsCancelled(status)) return;
  if (absl::IsUnavailable(status)) {
    vitals_->failed(status);
  } else {
    vitals_->reached();
  }
}

absl::StatusOr<NbdProbe> NbdTree::probe() {
  if (stopped_) return ends();
  absl::StatusOr<NbdProbe> probe = NbdProbe::connect(target_, options_.connect_timeout, stopped_);
  tell(probe.status());
  return probe;
}

absl::StatusOr<NbdExports> NbdTree::exports(NbdProbe* probe) {
  {
    const absl::MutexLock lock(&mutex_);
    if (listing_ && absl::Now() - listed_at_ < kListingAge) return *listing_;
  }
  absl::StatusOr<std::vector<std::string>> names = probe->list();
  absl::StatusOr<NbdExports> listing =
      names.ok() ? absl::StatusOr<NbdExports>(NbdExports(*std::move(names))) : names.status();
  if (!listing.ok() && !is_unlisted(listing.status())) return listing;
  const absl::MutexLock lock(&mutex_);
  listing_ = listing;
  listed_at_ = absl::Now();
  const auto nameless = listing.ok() ? listing->nameless() : NbdExports::Nameless::kNone;
  shows_nameless_ = nameless == NbdExports::Nameless::kShown;
  if (nameless == NbdExports::Nameless::kHidden && !std::exchange(told_hidden_, true)) {
    spdlog::warn(
        "origin {}: the server's export with the empty name is not shown: where it would be, at "
        "'{}', is another of the server's",
        options_.name, NbdExports::kNameless);
  }
  if (listing.ok() && listing->left_out() > 0 && !told_left_out_) {
    told_left_out_ = true;
    spdlog::warn(
        "origin {}: {} exports of the server have names that cannot be paths, and are left "
        "out; an origin with such a name in its url shows it",
        options_.name, listing->left_out());
  }
  return listing;
}

std::string NbdTree::export_at(std::string_view path) {
  if (!only_.empty()) return target_.url.export_name;
  const absl::MutexLock lock(&mutex_);
  return shows_nameless_ && path == NbdExports::kNameless ? std::string() : std::string(path);
}

std::string NbdTree::url_of(std::string_view path) {
  base::NbdUrl url = target_.url;
  url.export_name = export_at(path);
  return url.to_string();
}

absl::StatusOr<tree::OriginEntry> NbdTree::look_up(std::string_view path) {
  if (stopped_) return ends();
  if (path.empty()) return directory("");
  if (!only_.empty() && path != only_) return nothing(path);
  std::string export_name = export_at(path);
  const std::string name = last_component(std::string(path));
  if (const std::shared_ptr<NbdSession> open = session(export_name)) {
    return entry(name, open->info(), export_name);
  }
  const ProbeSlot slot(*this);
  absl::StatusOr<NbdProbe> probe = this->probe();
  if (!probe.ok()) return probe.status();
  if (only_.empty()) {
    const absl::StatusOr<NbdExports> exports = this->exports(&*probe);
    if (!exports.ok() && !is_unlisted(exports.status())) return exports.status();
    if (exports.ok() && exports->at(path) == NbdExports::Kind::kDirectory) {
      return directory(name);
    }
    export_name = export_at(path);
  }
  const absl::StatusOr<NbdExportInfo> info = probe->info(export_name);
  if (absl::IsNotFound(info.status())) return nothing(path);
  if (!info.ok()) return info.status();
  return entry(name, *info, export_name);
}

absl::StatusOr<std::vector<tree::OriginEntry>> NbdTree::list(std::string_view path) {
  if (stopped_) return ends();
  std::vector<tree::OriginEntry> entries;
  if (!only_.empty()) {
    const absl::StatusOr<tree::OriginEntry> one = look_up(only_);
    if (!path.empty() && path != only_) return nothing(path);
    if (!path.empty()) {
      return absl::FailedPreconditionError(fmt::format("{}: not a directory", only_));
    }
    if (absl::IsNotFound(one.status())) return entries;
    if (!one.ok()) return one.status();
    entries.push_back(*one);
    return entries;
  }
  const ProbeSlot slot(*this);
  absl::StatusOr<NbdProbe> probe = this->probe();
  if (!probe.ok()) return probe.status();
  const absl::StatusOr<NbdExports> exports = this->exports(&*probe);
  if (!exports.ok()) return exports.status();
  const absl::StatusOr<std::vector<NbdExports::Entry>> listed =
      exports->list(path, tree::kMaxOriginEntries);
  if (!listed.ok()) return listed.status();
  for (const NbdExports::Entry& each : *listed) {
    if (each.directory) {
      entries.push_back(directory(each.name));
      continue;
    }
    const std::string whole =
        export_at(path.empty() ? each.name : fmt::format("{}/{}", path, each.name));
    const std::shared_ptr<NbdSession> open = session(whole);
    const absl::StatusOr<NbdExportInfo> info =
        open ? absl::StatusOr<NbdExportInfo>(open->info()) : probe->info(whole);
    // What the server lists and does not open (any more) is not there.
    if (absl::IsUnavailable(info.status()) || absl::IsCancelled(info.status())) {
      return info.status();
    }
    if (info.ok()) entries.push_back(entry(each.name, *info, whole));
  }
  return entries;
}

/// Those of an export are one as long as any is left.
std::shared_ptr<NbdFences> NbdTree::fences(const std::string& export_name) {
  const absl::MutexLock lock(&mutex_);
  std::erase_if(fences_, [](const auto& each) { return each.second.expired(); });
  std::weak_ptr<NbdFences>& known = fences_[export_name];
  std::shared_ptr<NbdFences> fences = known.lock();
  if (!fences) known = fences = std::make_shared<NbdFences>();
  return fences;
}

absl::StatusOr<std::shared_ptr<NbdSession>> NbdTree::open_session(const std::string& export_name) {
  NbdWireOptions options;
  options.target = target_;
  options.export_name = export_name;
  options.connections = options_.connections;
  options.connect_timeout = options_.connect_timeout;
  options.request_timeout = options_.request_timeout;
  const auto wire = std::make_shared<NbdWire>(std::move(options), vitals_, fences(export_name));
  if (!loop_->add(wire)) return absl::UnavailableError("the origin was closed");
  const absl::StatusOr<NbdExportInfo> info = wire->wait_open();
  tell(info.status());
  if (!info.ok()) {
    NbdLoop::Task close = [wire] { wire->close(); };
    (void)loop_->post(close);
    return info.status();
  }
  const page::ObjectKey key =
      options_.immutable ? lasting_key(export_name, info->size_bytes) : page::ObjectKey::random();
  return std::make_shared<NbdSession>(loop_, wire, vitals_, *info, key);
}

absl::StatusOr<tree::OriginFile> NbdTree::open(std::string_view path) {
  if (stopped_) return ends();
  if (path.empty()) return not_a_file("the origin");
  if (!only_.empty() && path != only_) return nothing(path);
  std::string export_name = export_at(path);
  std::shared_ptr<NbdSession> session = this->session(export_name);
  if (!session) {
    const absl::StatusOr<tree::OriginEntry> entry = look_up(path);
    if (!entry.ok()) return entry.status();
    if (entry->kind == tree::OriginEntry::Kind::kDirectory) return not_a_file(path);
    export_name = export_at(path);
    {
      // One opens it, and those who come meanwhile share what that brings.
      const absl::MutexLock lock(&mutex_);
      const auto is_free = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return !opening_.contains(export_name) || is_stopped();
      };
      mutex_.Await(absl::Condition(&is_free));
      if (stopped_) return ends();
      opening_.insert(export_name);
    }
    session = this->session(export_name);
    absl::StatusOr<std::shared_ptr<NbdSession>> made = session;
    if (!session) made = open_session(export_name);
    const absl::MutexLock lock(&mutex_);
    opening_.erase(export_name);
    if (absl::IsNotFound(made.status())) return nothing(path);
    if (!made.ok()) return made.status();
    session = *std::move(made);
    std::erase_if(sessions_, [](const auto& each) { return each.second.expired(); });
    sessions_[export_name] = session;
  }
  tree::OriginFile file;
  file.version = {session->key(), session->info().size_bytes, session};
  file.lasting = options_.immutable;
  if (!options_.read_only && !session->info().read_only) {
    file.make_image = [session](page::ObjectRef cached) {
      return std::make_shared<NbdImage>(session, std::move(cached));
    };
  }
  return file;
}

}  // namespace blobcache::net
