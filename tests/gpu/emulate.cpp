// Runs the kernels of src/model/device/kernels.cu on the CPU, a thread for each of theirs, and holds what they compute
// against plain sums in double precision: no GPU is needed. Compile with -DELEMENT=float|Half|Bfloat -DHEAD_DIM=… -DPACK=….

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

// 1. What CUDA has and C++ has not.
#define EMULATED
#define __global__
#define __device__
#define __shared__ static
#define __align__(bytes) alignas(bytes)
struct Index { unsigned x, y, z; };
struct float2 { float x, y; };
static float2 make_float2(float x, float y) { return {x, y}; }
static thread_local Index threadIdx, blockIdx;
static Index blockDim;
static std::unique_ptr<std::barrier<>> block_barrier, warp_barriers[8];
static unsigned long long exchanged[8][32];
static void __syncthreads() { block_barrier->arrive_and_wait(); }
static void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }
template <typename V> static V __shfl_sync(unsigned, V value, int lane) {
  auto& values = exchanged[threadIdx.x / 32];
  std::memcpy(&values[threadIdx.x % 32], &value, sizeof value);
  __syncwarp();
  std::memcpy(&value, &values[lane], sizeof value);
  __syncwarp();
  return value;
}
template <typename V> static V __shfl_xor_sync(unsigned all, V value, int mask) {
  return __shfl_sync(all, value, int(threadIdx.x % 32) ^ mask);
}
static unsigned __float_as_uint(float x) { unsigned y; std::memcpy(&y, &x, 4); return y; }
static float __uint_as_float(unsigned x) { float y; std::memcpy(&y, &x, 4); return y; }
static float __int_as_float(int x) { float y; std::memcpy(&y, &x, 4); return y; }
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
static void atomicAdd(unsigned long long* to, unsigned long long value) { __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
struct Half;
static float wide(Half x);
static void narrow(float x, Half& y);

#include "../../src/model/device/kernels.cu"

static float wide(Half x) { _Float16 y; std::memcpy(&y, &x.bits, 2); return float(y); }
static void narrow(float x, Half& y) { _Float16 z = _Float16(x); std::memcpy(&y.bits, &z, 2); }

static void launch(unsigned blocks, unsigned others, const std::function<void()>& kernel) {
  blockDim = {256, 1, 1};
  for (unsigned y = 0; y < others; y++)
    for (unsigned x = 0; x < blocks; x++) {
      // A warp's threads leave together, and a block's that meet do so too: no one waits for who has gone.
      block_barrier = std::make_unique<std::barrier<>>(256);
      for (auto& warp : warp_barriers) warp = std::make_unique<std::barrier<>>(32);
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < 256; t++)
        threads.emplace_back([=, &kernel] {
          threadIdx = {t, 0, 0};
          blockIdx = {x, y, 0};
          kernel();
        });
      for (auto& thread : threads) thread.join();
    }
}

// 2. The tests.
static std::mt19937 random_numbers(1);
static float number() { return std::uniform_real_distribution<float>(-1, 1)(random_numbers); }
static std::vector<T> numbers(size_t count) {
  std::vector<T> values(count);
  for (T& value : values) narrow(number(), value);
  return values;
}
// Relative to the size of the values, as precise as the element is.
static void near(const char* what, double got, double wanted, double size) {
  const double precision = sizeof(T) == 4 ? 2e-5 : std::is_same_v<T, Half> ? 2e-3 : 1.6e-2;
  if (!(std::abs(got - wanted) <= precision * size)) {
    std::printf("%s: %g instead of %g\n", what, got, wanted);
    std::exit(1);
  }
}

static void elementwise() {
  const u32 rows = 3, hidden = 150;
  auto both = numbers(rows * 2 * hidden);
  std::vector<T> out(rows * hidden);
  launch((rows * hidden + 255) / 256, 1, [&] { swiglu(both.data(), out.data(), hidden, rows * hidden); });
  std::vector<float> x(rows * hidden, 0.5f), weight(hidden);
  auto sums = x;
  launch((rows * hidden + 255) / 256, 1, [&] { add(sums.data(), both.data(), rows * hidden); });
  for (float& w : weight) w = number();
  for (float& v : x) v = number();
  std::vector<T> normed(rows * hidden);
  launch(rows, 1, [&] { rms_norm(x.data(), weight.data(), normed.data(), hidden, 1e-5f); });
  for (u32 i = 0; i < rows * hidden; i++) {
    const T* row = &both[i / hidden * 2 * hidden];
    double gate = wide(row[i % hidden]), up = wide(row[hidden + i % hidden]), squares = 0;
    near("swiglu", wide(out[i]), gate / (1 + std::exp(-gate)) * up, 1);
    near("add", sums[i], 0.5 + wide(both[i]), 1);
    for (u32 j = 0; j < hidden; j++) squares += std::pow(x[i / hidden * hidden + j], 2);
    near("rms_norm", wide(normed[i]), x[i] / std::sqrt(squares / hidden + 1e-5) * weight[i % hidden], 2);
  }
}

// Two prompts with two completions each and a prompt's own rows, grouped keys and values.
static void attending() {
  const u32 heads = 4, kv_heads = 2, dim = heads * HEAD_DIM, kv_dim = kv_heads * HEAD_DIM, width = dim + 2 * kv_dim;
  const u32 blocks = 12, slots = blocks * BLOCK, positions = 120;
  auto cache = numbers(2 * slots * kv_dim);
  std::vector<float> table(positions * HEAD_DIM);
  for (u32 p = 0; p < positions; p++)
    for (u32 i = 0; i < HEAD_DIM / 2; i++) {
      float angle = p / std::pow(10000.f, 2.f * i / HEAD_DIM);
      table[(p * (HEAD_DIM / 2) + i) * 2] = std::cos(angle);
      table[(p * (HEAD_DIM / 2) + i) * 2 + 1] = std::sin(angle);
    }
  struct Span { std::vector<u32> blocks; u32 len; };
  const Span prompt_a{{7, 2, 9}, 41}, prompt_b{{4}, 5}, none{{}, 0};
  struct Query { Span prefix, own; };
  const std::vector<Query> queries{{prompt_a, {{1}, 3}}, {prompt_b, {{0, 3}, 20}}, {prompt_a, {{5}, 1}}, {none, {{8, 10, 11}, 40}}, {prompt_b, {{6}, 16}}};
  const u32 rows = queries.size() + 2, padded = 16; // two rows are not picked, and the rest is padding
  auto qkv = numbers(rows * width);
  auto before = cache;
  std::vector<u32> plan, list;
  auto row_of = [](u32 query) { return query + (query >= 2); }; // row 2 is not picked
  std::vector<u32> places(2 * rows, NONE);
  for (u32 i = 0; i < queries.size(); i++) {
    const Query& query = queries[i];
    const u32 last = query.own.len - 1;
    places[2 * row_of(i)] = query.prefix.len + last;
    places[2 * row_of(i) + 1] = query.own.blocks[last / BLOCK] * BLOCK + last % BLOCK;
  }
  plan = places;
  const u32 at_queries = plan.size();
  auto begin = [&](const Span& span) { u32 at = list.size(); list.insert(list.end(), span.blocks.begin(), span.blocks.end()); return at; };
  for (u32 i = 0; i < queries.size(); i++)
    for (u32 value : {row_of(i), begin(queries[i].prefix), queries[i].prefix.len, begin(queries[i].own), queries[i].own.len}) plan.push_back(value);
  plan.resize(at_queries + 5 * padded, NONE);
  const u32 at_order = plan.size();
  for (u32 row : {3, 0, 2, 1, 4}) plan.push_back(row);
  for (u32 row = queries.size(); row < padded; row++) plan.push_back(row);
  const u32 at_blocks = plan.size();
  plan.insert(plan.end(), list.begin(), list.end());

  launch(rows, 1, [&] { store(cache.data(), qkv.data(), table.data(), plan.data(), dim, kv_dim, slots); });
  auto turn = [&](const T* head, u32 position, u32 i) {
    const float *cs = &table[(position * (HEAD_DIM / 2) + i / 2) * 2];
    double a = wide(head[i / 2 * 2]), b = wide(head[i / 2 * 2 + 1]);
    return i % 2 ? a * cs[1] + b * cs[0] : a * cs[0] - b * cs[1];
  };
  for (u32 i = 0; i < queries.size(); i++) {
    const u32 position = places[2 * row_of(i)], slot = places[2 * row_of(i) + 1];
    const T* key = &qkv[row_of(i) * width + dim];
    for (u32 j = 0; j < kv_dim; j++) {
      near("key", wide(cache[slot * kv_dim + j]), turn(key + j / HEAD_DIM * HEAD_DIM, position, j % HEAD_DIM), 1.5);
      near("value", wide(cache[(slots + slot) * kv_dim + j]), wide(key[kv_dim + j]), 0);
      before[slot * kv_dim + j] = cache[slot * kv_dim + j];
      before[(slots + slot) * kv_dim + j] = cache[(slots + slot) * kv_dim + j];
    }
  }
  if (std::memcmp(before.data(), cache.data(), cache.size() * sizeof(T))) { std::printf("store wrote elsewhere\n"); std::exit(1); }

  std::vector<T> out(padded * dim);
  launch(padded / 8, heads, [&] {
    attention(out.data(), qkv.data(), cache.data(), table.data(), plan.data(), at_queries, at_order, at_blocks, padded, dim, kv_dim, slots);
  });
  for (u32 i = 0; i < queries.size(); i++)
    for (u32 head = 0; head < heads; head++) {
      std::vector<u32> seen;
      for (const Span* span : {&queries[i].prefix, &queries[i].own})
        for (u32 j = 0; j < span->len; j++) seen.push_back(span->blocks[j / BLOCK] * BLOCK + j % BLOCK);
      const u32 part = head / (heads / kv_heads) * HEAD_DIM;
      std::vector<double> weights;
      for (u32 slot : seen) {
        double score = 0;
        for (u32 j = 0; j < HEAD_DIM; j++)
          score += turn(&qkv[row_of(i) * width + head * HEAD_DIM], places[2 * row_of(i)], j) * wide(cache[slot * kv_dim + part + j]);
        weights.push_back(std::exp(score / std::sqrt(HEAD_DIM)));
      }
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (u32 j = 0; j < HEAD_DIM; j++) {
        double value = 0;
        for (size_t k = 0; k < seen.size(); k++) value += weights[k] / total * wide(cache[(slots + seen[k]) * kv_dim + part + j]);
        near("attention", wide(out[i * dim + head * HEAD_DIM + j]), value, 1);
      }
    }
}

// The token by a full sort.
static u32 sorted_draw(const T* logits, u32 vocab, const u32* draw, float temperature, double top_p) {
  std::vector<u32> ids(vocab);
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](u32 a, u32 b) { return wide(logits[a]) > wide(logits[b]); });
  if (temperature == 0) return ids[0];
  std::vector<double> weights;
  for (u32 id : ids) weights.push_back(std::exp((double(wide(logits[id])) - wide(logits[ids[0]])) / temperature));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double mass = 0;
  std::vector<u32> nucleus;
  for (u32 i = 0; i < vocab; i++) {
    nucleus.push_back(ids[i]);
    if (top_p < 1 && (mass += weights[i]) >= top_p * total) break;
  }
  return *std::max_element(nucleus.begin(), nucleus.end(), [&](u32 a, u32 b) {
    auto score = [&](u32 id) { return double(wide(logits[id])) / temperature + gumbel(draw[1], draw[2], draw[3], id); };
    return score(a) != score(b) ? score(a) < score(b) : a > b;
  });
}

static void drawing() {
  // Philox's known answer, of the authors' Random123: all zeros give 6627e8d5 e169c58d.
  const double first = ((double)((0x6627e8d5ull << 32 | 0xe169c58dull) >> 11) + 0.5) / 9007199254740992.0;
  if (gumbel(0, 0, 0, 0) != -std::log(-std::log(first))) { std::printf("philox\n"); std::exit(1); }
  const u32 rows = 4, vocab = 1003, count = 12;
  auto logits = numbers(rows * vocab);
  for (u32 i = 0; i < rows * vocab; i++) narrow(std::round(8 * wide(logits[i])), logits[i]); // many ties
  std::vector<u32> draws, out(count);
  for (u32 i = 0; i < count; i++)
    for (u32 value : {i % rows, u32(random_numbers()), u32(random_numbers()), 5 + i}) draws.push_back(value);
  for (float temperature : {0.f, 0.2f, 0.8f, 1.f})
    for (double top_p : {0.3, 0.95, 1.0}) {
      launch(count, 1, [&] { draw(logits.data(), draws.data(), out.data(), vocab, temperature, top_p); });
      for (u32 i = 0; i < count; i++) {
        const u32 wanted = sorted_draw(&logits[i % rows * vocab], vocab, &draws[4 * i], temperature, top_p);
        if (out[i] != wanted) { std::printf("draw at T %g, top-p %g: %u instead of %u\n", temperature, top_p, out[i], wanted); std::exit(1); }
      }
    }
  narrow(NAN, logits[vocab + 700]);
  launch(2, 1, [&] { draw(logits.data(), draws.data(), out.data(), vocab, 0.8f, 0.95); });
  if (out[0] == NONE || out[1] != NONE) { std::printf("draw takes what is not a number\n"); std::exit(1); }
}

int main() {
  elementwise();
  attending();
  drawing();
  std::printf("the kernels compute what they should: elements of %zu bytes, heads of %d\n", sizeof(T), HEAD_DIM);
}
