// libtorch's c10d behind a C interface. The Rust side validates every argument before it comes here:
// Gloo aborts the process, from a thread of its own, where sizes differ between ranks.

#include "boundary.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef HESSIAN_PROBE_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

using hessian_probe::guarded;
using std::chrono::milliseconds;

namespace {

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> gloo;
  c10::intrusive_ptr<c10d::Backend> nccl;
  int rank;
  int world_size;
  milliseconds timeout;
  uint32_t gathers = 0;

  c10d::Backend& backend(const at::Tensor& tensor) {
    if (!tensor.is_cuda()) {
      return *gloo;
    }
#ifdef HESSIAN_PROBE_NCCL
    if (!nccl) {
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = timeout;
      nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(
          c10::make_intrusive<c10d::PrefixStore>("nccl", store), rank, world_size, options);
    }
    return *nccl;
#else
    throw std::runtime_error("a CUDA tensor needs the feature `nccl`");
#endif
  }
};

// A gather that was started. Every rank sends its part to every other, and a byte after it; who has all of it sends
// a byte back.
//
// c10d's own gather over Gloo receives into a tensor of its own, which is freed before Gloo's buffers over it are
// where a peer is lost: Gloo's thread then sends from freed memory and ends the process ("writev: Bad address").
// Here Gloo sees the caller's memory only, and nothing is copied twice.
//
// The bytes: Gloo tells of a lost peer those who wait for what has not begun to arrive, and neither those whose data
// is on its way nor those who send. So what is waited for is a byte behind the data, either way.
class Gather {
 public:
  Gather(Group& group, const at::Tensor& output, const at::Tensor& input) : rank_(group.rank) {
    const int first = static_cast<int>(group.gathers++ % (1u << 29)) * 3;
    const int data = first, end = first + 1;
    got_all_ = first + 2;
    auto& gloo = *group.gloo;
    auto places = output.chunk(group.world_size);
    bytes_ = at::zeros({3, group.world_size}, at::kByte);
    for (int distance = 1; distance < group.world_size; ++distance) {
      const int from = (group.rank + group.world_size - distance) % group.world_size;
      data_.push_back(receive(gloo, places[from], from, data));
      ends_.push_back(receive(gloo, byte(0, from), from, end));
      answers_.push_back(receive(gloo, byte(1, from), from, got_all_));
    }
    for (int distance = 1; distance < group.world_size; ++distance) {
      const int to = (group.rank + distance) % group.world_size;
      data_.push_back(send(gloo, input, to, data));
      data_.push_back(send(gloo, byte(2, rank_), to, end));
    }
    places[rank_].copy_(input);
  }

  void wait(Group& group) {
    wait_for(ends_);
    for (int distance = 1; distance < group.world_size; ++distance) {
      data_.push_back(send(*group.gloo, byte(2, rank_), (rank_ + distance) % group.world_size, got_all_));
    }
    wait_for(answers_);
    wait_for(data_);
  }

 private:
  using Works = std::vector<c10::intrusive_ptr<c10d::Work>>;

  static c10::intrusive_ptr<c10d::Work> receive(c10d::Backend& gloo, at::Tensor into, int from, int tag) {
    std::vector<at::Tensor> tensors{std::move(into)};
    return gloo.recv(tensors, from, tag);
  }

  static c10::intrusive_ptr<c10d::Work> send(c10d::Backend& gloo, at::Tensor what, int to, int tag) {
    std::vector<at::Tensor> tensors{std::move(what)};
    return gloo.send(tensors, to, tag);
  }

  static void wait_for(Works& works) {
    for (auto& work : works) {
      work->wait();
    }
  }

  at::Tensor byte(int row, int rank) {
    return bytes_.select(0, row).narrow(0, rank, 1);
  }

  int rank_;
  int got_all_;
  at::Tensor bytes_;
  Works data_, ends_, answers_;
};

// What hp_group_start_all_gather began: a gather of ours over Gloo, or NCCL's work.
struct UnderWay {
  std::unique_ptr<Gather> gather;
  c10::intrusive_ptr<c10d::Work> work;
};

// One dimension, because c10d also compares shapes, which are free here; and outside of autograd, so that a
// leaf that requires gradients can be received into.
at::Tensor flat(const at::Tensor* tensor) {
  return tensor->variable_data().view({-1});
}

std::vector<std::string> keys_of_ranks(const char* prefix, int world_size) {
  std::vector<std::string> keys;
  for (int rank = 0; rank < world_size; ++rank) {
    keys.push_back(std::string(prefix) + std::to_string(rank));
  }
  return keys;
}

// Says in the store that this rank is here, waits for the others, and notes who was heard of.
bool roll_call(Group& group, const char* prefix, milliseconds patience, uint8_t* present) {
  const auto keys = keys_of_ranks(prefix, group.world_size);
  group.store->set(keys[group.rank], std::string("1"));
  try {
    group.store->wait(keys, patience);
    std::memset(present, 1, keys.size());
    return true;
  } catch (const std::exception&) {
    for (size_t rank = 0; rank < keys.size(); ++rank) {
      present[rank] = group.store->check({keys[rank]}) ? 1 : 0;
    }
    return false;
  }
}

} // namespace

extern "C" {

void hp_free(void* memory) {
  std::free(memory);
}

char* hp_store_host(uint16_t port, int64_t timeout_ms, void** store, uint16_t* bound) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = true;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    auto hosted = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
    *bound = hosted->getPort();
    *store = hosted.release();
  });
}

void hp_store_drop(void* store) {
  c10::intrusive_ptr<c10d::TCPStore>::reclaim(static_cast<c10d::TCPStore*>(store));
}

// `present` receives one flag a rank: whether it was heard of in the store by then.
char* hp_group_connect(
    const char* host, uint16_t port, int is_server, const char* prefix, int rank, int world_size,
    int64_t timeout_ms, uint8_t* present, void** out) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server != 0;
    options.waitWorkers = false; // the roll call below waits, and can tell who is missing
    options.multiTenant = true; // one process may form several groups over one address
    options.timeout = milliseconds(timeout_ms);
    auto group = std::make_unique<Group>();
    group->store = c10::make_intrusive<c10d::PrefixStore>(
        prefix, c10::make_intrusive<c10d::TCPStore>(host, options));
    group->rank = rank;
    group->world_size = world_size;
    group->timeout = milliseconds(timeout_ms);
    if (!roll_call(*group, "arrived/", group->timeout, present)) {
      throw std::runtime_error("not all ranks arrived before the timeout");
    }
    group->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<c10d::PrefixStore>("gloo", group->store), rank, world_size,
        c10d::ProcessGroupGloo::Options::create_default(group->timeout));
    *out = group.release();
  });
}

// Closes the connections, which wakes peers that wait for this rank, and keeps the store.
char* hp_group_close(void* group) {
  return guarded([&] {
    static_cast<Group*>(group)->gloo.reset();
    static_cast<Group*>(group)->nccl.reset();
  });
}

char* hp_group_set_timeout(void* group, int64_t timeout_ms) {
  return guarded([&] {
    auto& self = *static_cast<Group*>(group);
    self.timeout = milliseconds(timeout_ms);
    self.gloo->setTimeout(self.timeout);
  });
}

char* hp_group_drop(void* group) {
  return guarded([&] { delete static_cast<Group*>(group); });
}

char* hp_group_roll_call(void* group, int64_t patience_ms, uint8_t* present) {
  return guarded(
      [&] { roll_call(*static_cast<Group*>(group), "after-failure/", milliseconds(patience_ms), present); });
}

// Sends `packet` to every rank and fills `packets` with theirs, in rank order. All-to-all rather than
// all-gather: one hop at any world size, a lost rank is noticed by all others at once, and Gloo keeps its
// messages apart from those of the other collectives, so that none can be taken for the other.
char* hp_group_exchange(void* group, const uint8_t* packet, uint8_t* packets, int64_t bytes) {
  return guarded([&] {
    auto& self = *static_cast<Group*>(group);
    auto input = at::empty({self.world_size, bytes}, at::kByte);
    auto output = at::empty({self.world_size, bytes}, at::kByte);
    for (int rank = 0; rank < self.world_size; ++rank) {
      std::memcpy(input.data_ptr<uint8_t>() + rank * bytes, packet, bytes);
    }
    std::vector<int64_t> equal_parts;
    self.gloo->alltoall_base(output, input, equal_parts, equal_parts)->wait();
    std::memcpy(packets, output.data_ptr<uint8_t>(), output.numel());
  });
}

char* hp_group_all_reduce(void* group, at::Tensor* tensor, int op) {
  return guarded([&] {
    c10d::AllreduceOptions options;
    options.reduceOp = static_cast<c10d::ReduceOp::RedOpType>(op);
    std::vector<at::Tensor> tensors{flat(tensor)};
    static_cast<Group*>(group)->backend(*tensor).allreduce(tensors, options)->wait();
  });
}

// Leaves `work` to hp_work_wait or hp_work_drop; c10d keeps references to both storages until then.
char* hp_group_start_all_gather(void* group, at::Tensor* output, at::Tensor* input, void** work) {
  return guarded([&] {
    auto& self = *static_cast<Group*>(group);
    auto flat_output = flat(output), flat_input = flat(input);
    auto under_way = std::make_unique<UnderWay>();
    if (input->is_cuda()) {
      under_way->work = self.backend(*input)._allgather_base(flat_output, flat_input);
    } else {
      under_way->gather = std::make_unique<Gather>(self, flat_output, flat_input);
    }
    *work = under_way.release();
  });
}

// Waits for it, and gives it back whatever becomes of it.
char* hp_work_wait(void* group, void* work) {
  return guarded([&] {
    std::unique_ptr<UnderWay> under_way(static_cast<UnderWay*>(work));
    if (under_way->gather) {
      under_way->gather->wait(*static_cast<Group*>(group));
    } else {
      under_way->work->wait();
    }
  });
}

// Gives up what a closed group had under way: Gloo lets go of the memory before this returns.
char* hp_work_drop(void* work) {
  return guarded([&] { delete static_cast<UnderWay*>(work); });
}

char* hp_group_reduce_scatter(void* group, at::Tensor* output, at::Tensor* input, int op) {
  return guarded([&] {
    c10d::ReduceScatterOptions options;
    options.reduceOp = static_cast<c10d::ReduceOp::RedOpType>(op);
    auto flat_output = flat(output), flat_input = flat(input);
    static_cast<Group*>(group)->backend(*input)._reduce_scatter_base(flat_output, flat_input, options)->wait();
  });
}

char* hp_group_broadcast(void* group, at::Tensor* tensor, int root) {
  return guarded([&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> tensors{flat(tensor)};
    static_cast<Group*>(group)->backend(*tensor).broadcast(tensors, options)->wait();
  });
}

char* hp_group_monitored_barrier(void* group) {
  return guarded([&] {
    c10d::BarrierOptions options;
    options.timeout = static_cast<Group*>(group)->timeout;
    static_cast<Group*>(group)->gloo->monitoredBarrier(options, /*waitAllRanks=*/true);
  });
}

} // extern "C"
