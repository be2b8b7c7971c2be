#include "store/tree/impl/open_versions.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace blobcache::tree {

OpenVersions::OpenVersions(page::PageStore& store) : store_(store), thread_([this] { run(); }) {}

OpenVersions::~OpenVersions() {
  {
    const absl::MutexLock lock(&state_->mutex);
    state_->ended = true;
  }
  thread_.join();
}

page::ObjectRef OpenVersions::open(OriginFile file) {
  const absl::MutexLock lock(&state_->mutex);
  return attach(file);
}

std::shared_ptr<volume::Image> OpenVersions::open_image(OriginFile file) {
  // Declared before the lock: the last holders of both may be here.
  page::ObjectRef object;
  std::shared_ptr<volume::Image> image;
  const absl::MutexLock lock(&state_->mutex);
  std::weak_ptr<volume::Image>& slot = state_->images[file.version.key];
  image = slot.lock();
  if (image != nullptr) return image;
  object = attach(file);
  image = std::move(file.make_image)(object);
  slot = image;
  return image;
}

page::ObjectRef OpenVersions::attach(const OriginFile& file) {
  std::weak_ptr<page::Object>& slot = state_->objects[file.version.key];
  if (page::ObjectRef open = slot.lock()) return open;
  auto source = std::make_shared<LentSource>(file.version.source);
  page::ObjectRef held = store_.attach_cached({file.version.key, file.version.size_bytes, source});
  page::Object* const it = held.get();
  page::ObjectRef made(
      it, [state = state_, lasting = file.lasting, left = Left{std::move(held), std::move(source)}](
              page::Object* /*unused*/) mutable { state->let_go(std::move(left), lasting); });
  slot = made;
  return made;
}

bool OpenVersions::State::is_open(const page::ObjectKey& key) {
  const auto at = objects.find(key);
  return at != objects.end() && !at->second.expired();
}

void OpenVersions::State::let_go(Left left, bool lasting) {
  {
    const absl::MutexLock lock(&mutex);
    const page::ObjectKey key = left.object->key();
    // Somebody else may have opened it since.
    if (!is_open(key)) objects.erase(key);
    if (const auto at = images.find(key); at != images.end() && at->second.expired()) {
      images.erase(at);
    }
    if (!lasting && !ended) {
      to_forget.push_back(std::move(left));
      return;
    }
  }
  left.source->give_back();
}

void OpenVersions::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "origin forget");
  State& state = *state_;
  const auto has_news = [&state]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state.mutex) {
    return state.ended || !state.to_forget.empty();
  };
  for (;;) {
    Left left;
    {
      const absl::MutexLock lock(&state.mutex);
      state.mutex.Await(absl::Condition(&has_news));
      if (state.to_forget.empty()) return;
      left = std::move(state.to_forget.front());
      state.to_forget.pop_front();
    }
    forget(std::move(left));
  }
}

void OpenVersions::forget(Left left) {
  left.source->give_back();
  const page::ObjectKey key = left.object->key();
  {
    const absl::MutexLock lock(&state_->mutex);
    if (state_->is_open(key)) return;  // who has it now will let it go, too
  }
  store_.evict_memory(*left.object);
  store_.forget_cached(key);
}

}  // namespace blobcache::tree
