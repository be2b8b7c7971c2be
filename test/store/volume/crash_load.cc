#include "test/store/volume/crash_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <utility>

namespace blobcache::volume {

uint64_t CrashLoad::begin_of(size_t thread) const {
  if (thread == threads_) return kSize;
  return kSize * thread / threads_ / 4096 * 4096;
}

Op CrashLoad::op(size_t thread, uint64_t number) const {
  std::mt19937_64 random(seed_ * 1000003 + thread * 7919 + number);
  random.discard(4);
  const uint64_t begin = begin_of(thread);
  const uint64_t size = begin_of(thread + 1) - begin;
  constexpr uint64_t kLongest[] = {700, 4096, 12288, 100000, 1000000};
  Op op;
  op.length = 1 + random() % kLongest[random() % 5];
  op.offset = random() % (size - op.length);
  if (random() % 3 != 0) {
    op.offset = op.offset / 4096 * 4096;
    op.length = std::min((op.length + 4095) / 4096 * 4096, size - op.offset);
  }
  op.offset += begin;
  op.seed = random();
  op.fua = random() % 10 == 0;
  constexpr Op::Kind kKinds[] = {Op::Kind::kWrite, Op::Kind::kWrite, Op::Kind::kWrite,
                                 Op::Kind::kWrite, Op::Kind::kWrite, Op::Kind::kZero,
                                 Op::Kind::kTrim,  Op::Kind::kTrim,  Op::Kind::kFillZero,
                                 Op::Kind::kFlush, Op::Kind::kFlush, Op::Kind::kClose};
  op.kind = kKinds[random() % 12];
  if (op.kind == Op::Kind::kClose && threads_ > 1) op.kind = Op::Kind::kWrite;
  if (churns_ && number % 4 == 3) {
    op.kind = Op::Kind::kChurn;
    op.offset = op.offset / 4096 * 4096;
    op.length = 4096;
    if (op.offset + op.length > begin + size) op.offset -= 4096;
    op.fua = false;
  }
  return op;
}

Bytes CrashLoad::bytes_of(const Op& op) {
  const bool has_bytes = op.kind == Op::Kind::kWrite || op.kind == Op::Kind::kChurn;
  return has_bytes ? random_bytes(op.length, op.seed) : Bytes(op.length);
}

namespace {

absl::Status churn(Volume& volume, const Op& op) {
  constexpr int kTimes = 4096;
  const Bytes bytes = CrashLoad::bytes_of(op);
  absl::Status status;
  for (int i = 0; i < kTimes && status.ok(); ++i) {
    status = volume.write_wait(op.offset, bytes);
    if (status.ok()) status = volume.trim_wait(op.offset, op.length);
  }
  if (status.ok()) status = volume.write_wait(op.offset, bytes);
  return status;
}

absl::Status run_op(std::shared_ptr<Volume>& volume, const VolumeOptions& options, const Op& op) {
  switch (op.kind) {
    case Op::Kind::kWrite:
      return volume->write_wait(op.offset, CrashLoad::bytes_of(op), op.fua);
    case Op::Kind::kZero:
    case Op::Kind::kFillZero:
      return volume->write_zeroes_wait(op.offset, op.length,
                                       {.fua = op.fua, .no_hole = op.kind == Op::Kind::kFillZero});
    case Op::Kind::kTrim:
      return volume->trim_wait(op.offset, op.length, op.fua);
    case Op::Kind::kFlush:
      return volume->flush_wait();
    case Op::Kind::kChurn:
      return churn(*volume, op);
    case Op::Kind::kClose:
      break;
  }
  if (absl::Status status = volume->close(); !status.ok()) return status;
  auto opened = Volume::open(options);
  if (!opened.ok()) return opened.status();
  volume = *std::move(opened);
  return absl::OkStatus();
}

}  // namespace

void CrashLoad::run(const VolumeOptions& options, uint64_t most, CrashProgress& progress) const {
  auto opened = Volume::open(options);
  if (!opened.ok()) {
    ++progress.failed;
    return;
  }
  std::shared_ptr<Volume> volume = *std::move(opened);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < threads_; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < most; ++i) {
        if (!run_op(volume, options, op(thread, i)).ok()) ++progress.failed;
        ++progress.answered.at(thread);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

SectorModel::SectorModel(const Bytes& content) {
  for (uint64_t at = 0; at < content.size(); at += kSector) {
    const uint64_t length = std::min(kSector, content.size() - at);
    const char* bytes = reinterpret_cast<const char*>(content.data()) + at;
    sectors_.push_back({std::string(bytes, length)});
  }
  maybe_.resize(sectors_.size());
}

void SectorModel::apply(const Op& op, bool answered) {
  if (op.kind == Op::Kind::kFlush || op.kind == Op::Kind::kClose) return;
  // A page that is trimmed again and again may be zero at any time.
  if (op.kind == Op::Kind::kChurn) put(op.offset, Bytes(op.length), answered);
  put(op.offset, CrashLoad::bytes_of(op), answered);
}

void SectorModel::put(uint64_t offset, const Bytes& bytes, bool answered) {
  for (uint64_t at = 0; at < bytes.size();) {
    const uint64_t sector = (offset + at) / kSector;
    const uint64_t in_sector = (offset + at) % kSector;
    std::string version = sectors_[sector].back();
    const uint64_t length = std::min<uint64_t>(version.size() - in_sector, bytes.size() - at);
    version.replace(in_sector, length, reinterpret_cast<const char*>(bytes.data()) + at, length);
    (answered ? sectors_ : maybe_)[sector].push_back(std::move(version));
    at += length;
  }
}

void SectorModel::settle(uint64_t begin, uint64_t end) {
  for (uint64_t sector = begin / kSector; sector * kSector < end && sector < sectors_.size();
       ++sector) {
    std::vector<std::string>& versions = sectors_[sector];
    versions.erase(versions.begin(), versions.end() - 1);
  }
}

std::string SectorModel::problem(const Bytes& content) const {
  for (size_t i = 0; i < sectors_.size(); ++i) {
    const std::string found(reinterpret_cast<const char*>(content.data()) + i * kSector,
                            sectors_[i].back().size());
    const auto holds = [&](const std::vector<std::string>& versions) {
      return std::find(versions.begin(), versions.end(), found) != versions.end();
    };
    if (holds(sectors_[i]) || holds(maybe_[i])) continue;
    const bool zeros = found.find_first_not_of('\0') == std::string::npos;
    return fmt::format("sector {} is {}, and none of {} versions", i,
                       zeros ? "zeros" : "something else", sectors_[i].size());
  }
  return {};
}

SectorModel expected_after(const CrashLoad& load, const CrashProgress& progress, bool has_base,
                           bool killed_only) {
  Bytes content(CrashLoad::kSize);
  if (has_base) {
    const Bytes base = load.base_content();
    std::copy(base.begin(), base.end(), content.begin());
  }
  SectorModel model(content);
  for (size_t thread = 0; thread < load.threads(); ++thread) {
    const uint64_t answered = progress.answered.at(thread).load();
    // A thread's part begins and ends at pages; its flushes are taken for its own writes alone.
    const uint64_t begin = CrashLoad::kSize * thread / load.threads() / 4096 * 4096;
    const uint64_t end = thread + 1 == load.threads()
                             ? CrashLoad::kSize
                             : CrashLoad::kSize * (thread + 1) / load.threads() / 4096 * 4096;
    for (uint64_t i = 0; i < answered; ++i) {
      const Op op = load.op(thread, i);
      model.apply(op, true);
      const bool flushes =
          op.fua || op.kind == Op::Kind::kFlush || op.kind == Op::Kind::kClose || killed_only;
      if (flushes) model.settle(begin, end);
    }
    model.apply(load.op(thread, answered), false);
  }
  return model;
}

}  // namespace blobcache::volume
