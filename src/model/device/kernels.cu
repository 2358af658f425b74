// What a step does besides matrix products. Compiled at run time, without any header, for one element type and head
// size: ELEMENT is float, Half or Bfloat, PACK is how many of them are loaded at once. Every sum is added in one order that
// depends on the row alone, so that a row's result does not depend on its neighbours.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

struct Bfloat { u16 bits; };
struct Half { u16 bits; };
typedef ELEMENT T;

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(Bfloat x) { return __uint_as_float((u32)x.bits << 16); }
__device__ inline void narrow(float x, float& y) { y = x; }
__device__ inline void narrow(float x, Bfloat& y) { // to the nearest, ties to even
  u32 bits = __float_as_uint(x);
  y.bits = x != x ? 0x7fc0 : (u16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#ifndef EMULATED // on the CPU, by tests/gpu/emulate.cpp
__device__ inline float wide(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ inline void narrow(float x, Half& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
#endif

struct __align__(PACK * sizeof(T)) Pack { T v[PACK]; };

#define INF __int_as_float(0x7f800000)
#define WARP 32
#define ALL 0xffffffffu
#define NONE 0xffffffffu
#define BLOCK 16u // positions in a block of the cache

__device__ inline float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, step));
  return x;
}

// x (rows, dim) += y (rows, dim)
extern "C" __global__ void add(float* x, const T* y, u32 count) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) x[i] += wide(y[i]);
}

// Root-mean-square norm of each row of x (rows, dim), times weight (dim). A block of 256 threads for each row.
extern "C" __global__ void rms_norm(const float* x, const float* weight, T* out, u32 dim, float eps) {
  __shared__ float sums[256];
  x += (u64)blockIdx.x * dim;
  out += (u64)blockIdx.x * dim;
  float sum = 0;
  for (u32 i = threadIdx.x; i < dim; i += 256) sum += x[i] * x[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (u32 half = 128; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  float scale = rsqrtf(sums[0] / dim + eps);
  for (u32 i = threadIdx.x; i < dim; i += 256) narrow(x[i] * scale * weight[i], out[i]);
}

// silu(gate) * up: (rows, 2 hidden) → (rows, hidden)
extern "C" __global__ void swiglu(const T* both, T* out, u32 hidden, u32 count) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const T* row = both + (u64)(i / hidden) * 2 * hidden;
  float gate = wide(row[i % hidden]), up = wide(row[hidden + i % hidden]);
  narrow(gate / (1 + expf(-gate)) * up, out[i]);
}

// Turns a pair to its position: table holds cos and sin of (position, pair).
__device__ inline float2 turned(const T* pair, const float* table, u32 position, u32 at) {
  const float* turn = table + ((u64)position * (HEAD_DIM / 2) + at) * 2;
  float a = wide(pair[0]), b = wide(pair[1]);
  return make_float2(a * turn[0] - b * turn[1], a * turn[1] + b * turn[0]);
}

// Writes the turned key and the value of each row of qkv (rows, dim + 2 kv_dim) to its slot of the cache (2, slots,
// kv_dim). rows: (position, slot) of each. A block for each row, a thread for each pair.
extern "C" __global__ void store(T* cache, const T* qkv, const float* table, const u32* rows, u32 dim, u32 kv_dim, u32 slots) {
  u32 position = rows[2 * blockIdx.x], slot = rows[2 * blockIdx.x + 1];
  if (slot == NONE) return;
  const T* key = qkv + (u64)blockIdx.x * (dim + 2 * kv_dim) + dim;
  T* keys = cache + (u64)slot * kv_dim;
  T* values = cache + ((u64)slots + slot) * kv_dim;
  for (u32 pair = threadIdx.x; pair < kv_dim / 2; pair += blockDim.x) {
    float2 to = turned(key + 2 * pair, table, position, pair % (HEAD_DIM / 2));
    narrow(to.x, keys[2 * pair]);
    narrow(to.y, keys[2 * pair + 1]);
    values[2 * pair] = key[kv_dim + 2 * pair];
    values[2 * pair + 1] = key[kv_dim + 2 * pair + 1];
  }
}

// Causal attention. A warp for each query (picked row, head); the eight of a block share a head and, mostly, a prompt,
// whose keys then come from the first cache. Keys are walked 32 at a time, a lane for each, in the order of positions:
// first the prompt's, then the row's own. Softmax goes along (Milakov and Gimelshein 2018, arXiv 1805.02867).
//
// plan: (position, slot) of each row; at `queries`, for each picked row its row, and begin and length of prompt and
// own positions in `blocks`; at `order`, the picked rows so that those of a prompt stand together.
extern "C" __global__ void attention(T* out, const T* qkv, const T* cache, const float* table, const u32* plan, u32 queries,
                                     u32 order, u32 blocks, u32 count, u32 dim, u32 kv_dim, u32 slots) {
  __shared__ float turned_queries[8][HEAD_DIM];
  const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, head = blockIdx.y;
  const u32 at = blockIdx.x * 8 + warp;
  if (at >= count) return;
  const u32 row = plan[order + at];
  const u32* query = plan + queries + 5 * row;
  if (query[0] == NONE) return;
  const u32 kv_head = head / (dim / kv_dim);

  // 1. The query, turned to its position, over √head_dim.
  float* q = turned_queries[warp];
  const T* from = qkv + (u64)query[0] * (dim + 2 * kv_dim) + head * HEAD_DIM;
  for (u32 pair = lane; pair < HEAD_DIM / 2; pair += WARP) {
    float2 to = turned(from + 2 * pair, table, plan[2 * query[0]], pair);
    q[2 * pair] = to.x * rsqrtf(HEAD_DIM);
    q[2 * pair + 1] = to.y * rsqrtf(HEAD_DIM);
  }
  __syncwarp();

  const int PARTS = (HEAD_DIM + WARP - 1) / WARP;
  float sums[PARTS], largest = -INF, total = 0;
  for (int part = 0; part < PARTS; part++) sums[part] = 0;
  for (int phase = 0; phase < 2; phase++) {
    const u32 begin = query[1 + 2 * phase], len = query[2 + 2 * phase];
    for (u32 first = 0; first < len; first += WARP) {
      // 2. Scores of 32 positions.
      const u32 position = first + lane;
      u32 slot = 0;
      float score = -INF;
      if (position < len) {
        slot = plan[blocks + begin + position / BLOCK] * BLOCK + position % BLOCK;
        const Pack* key = (const Pack*)(cache + (u64)slot * kv_dim + kv_head * HEAD_DIM);
        score = 0;
        for (u32 pack = 0; pack < HEAD_DIM / PACK; pack++) {
          Pack part = key[pack];
          for (u32 i = 0; i < PACK; i++) score += q[pack * PACK + i] * wide(part.v[i]);
        }
      }
      // 3. Their weights beside those before.
      const float now = fmaxf(largest, warp_max(score));
      const float weight = position < len ? expf(score - now) : 0;
      const float fade = expf(largest - now);
      total = total * fade + warp_sum(weight);
      largest = now;
      for (int part = 0; part < PARTS; part++) sums[part] *= fade;
      // 4. The values so weighted, a lane for every 32nd element.
      const u32 here = len - first < WARP ? len - first : WARP;
      for (u32 i = 0; i < here; i++) {
        const float w = __shfl_sync(ALL, weight, i);
        const T* value = cache + ((u64)slots + __shfl_sync(ALL, slot, i)) * kv_dim + kv_head * HEAD_DIM;
        for (int part = 0; part < PARTS; part++) {
          const u32 element = lane + part * WARP;
          if (element < HEAD_DIM) sums[part] += w * wide(value[element]);
        }
      }
    }
  }
  for (int part = 0; part < PARTS; part++) {
    const u32 element = lane + part * WARP;
    if (element < HEAD_DIM) narrow(sums[part] / total, out[(u64)row * dim + head * HEAD_DIM + element]);
  }
}

// Ten rounds of Philox 4×32 (Salmon et al. 2011): Gumbel noise for a token at a position.
__device__ inline double gumbel(u32 key0, u32 key1, u32 position, u32 token) {
  u32 c0 = position, c1 = token, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; round++) {
    u64 left = (u64)c0 * 0xD2511F53u, right = (u64)c2 * 0xCD9E8D57u;
    c0 = (u32)(right >> 32) ^ c1 ^ key0;
    c1 = (u32)right;
    c2 = (u32)(left >> 32) ^ c3 ^ key1;
    c3 = (u32)left;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  double uniform = ((double)(((u64)c0 << 32 | c1) >> 11) + 0.5) * (1.0 / 9007199254740992.0);
  return -log(-log(uniform));
}

// One token from each row of logits (rows, vocab): the largest of logit / temperature + noise over the nucleus; ties go
// to the lower id. draws: row, key (2), position of each. out: the token, or NONE where the logits are not numbers.
// A block of 256 threads for each draw.
//
// The nucleus is found without sorting. Weights are counted in units of 2⁻⁴⁰, as whole numbers, whose sum does not
// depend on the order in which threads add; the least weight that is in is found eight bits of its float at a time.
extern "C" __global__ void draw(const T* logits, const u32* draws, u32* out, u32 vocab, float temperature, double top_p) {
  __shared__ float largest[256];
  __shared__ u64 mass[256];
  __shared__ u32 counts[256];
  __shared__ double best[256];
  __shared__ u32 best_id[256];
  __shared__ u64 wanted, above;
  __shared__ u32 prefix, ties;
  const u32 thread = threadIdx.x;
  const u32* mine = draws + 4 * blockIdx.x;
  logits += (u64)mine[0] * vocab;

  // 1. The largest, and whether all are numbers.
  float most = -INF;
  u32 bad = 0;
  for (u32 id = thread; id < vocab; id += 256) {
    float x = wide(logits[id]);
    bad |= x != x;
    most = fmaxf(most, x);
  }
  largest[thread] = most;
  counts[thread] = bad;
  __syncthreads();
  for (u32 half = 128; half > 0; half /= 2) {
    if (thread < half) {
      largest[thread] = fmaxf(largest[thread], largest[thread + half]);
      counts[thread] |= counts[thread + half];
    }
    __syncthreads();
  }
  most = largest[0];
  bad = counts[0];
  __syncthreads();
  if (bad || most == INF || most == -INF) {
    if (thread == 0) out[blockIdx.x] = NONE;
    return;
  }
  const bool greedy = temperature == 0, all = greedy || top_p >= 1;
#define WEIGHT(id) expf((wide(logits[id]) - most) / temperature)
#define UNITS(w) ((u64)((double)(w) * 1099511627776.0))

  // 2. The least weight in the nucleus, and how many of just that weight are in.
  if (!all) {
    if (thread == 0) above = prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      mass[thread] = 0;
      __syncthreads();
      for (u32 id = thread; id < vocab; id += 256) {
        float w = WEIGHT(id);
        u32 bits = __float_as_uint(w);
        if (shift == 24 || bits >> (shift + 8) == prefix) atomicAdd(&mass[bits >> shift & 255], UNITS(w));
      }
      __syncthreads();
      if (thread == 0) {
        if (shift == 24) {
          u64 total = 0;
          for (int i = 0; i < 256; i++) total += mass[i];
          wanted = (u64)ceil((double)total * top_p);
        }
        int digit = 255;
        while (digit > 0 && above + mass[digit] < wanted) above += mass[digit--];
        prefix = prefix << 8 | digit;
      }
      __syncthreads();
    }
    if (thread == 0) {
      u64 units = UNITS(__uint_as_float(prefix));
      ties = units == 0 ? NONE : (u32)((wanted - above + units - 1) / units);
    }
    // Threads own runs of ids, so that ties are taken from the lowest id on.
    __syncthreads();
  }
  const u32 run = (vocab + 255) / 256, begin = thread * run, end = begin + run < vocab ? begin + run : vocab;
  u32 before = 0;
  if (!all) {
    u32 equal = 0;
    for (u32 id = begin; id < end; id++) equal += __float_as_uint(WEIGHT(id)) == prefix;
    counts[thread] = equal;
    __syncthreads();
    for (u32 i = 0; i < thread; i++) before += counts[i];
  }

  // 3. The best of the nucleus.
  double score = -INF;
  u32 winner = NONE;
  for (u32 id = begin; id < end; id++) {
    if (!all) {
      u32 bits = __float_as_uint(WEIGHT(id));
      if (bits < prefix || (bits == prefix && before++ >= ties)) continue;
    }
    double x = greedy ? (double)wide(logits[id]) : (double)wide(logits[id]) / temperature + gumbel(mine[1], mine[2], mine[3], id);
    if (winner == NONE || x > score) {
      score = x;
      winner = id;
    }
  }
  best[thread] = score;
  best_id[thread] = winner;
  __syncthreads();
  for (u32 half = 128; half > 0; half /= 2) {
    if (thread < half) {
      const double other = best[thread + half];
      if (other > best[thread] || (other == best[thread] && best_id[thread + half] < best_id[thread])) {
        best[thread] = best[thread + half];
        best_id[thread] = best_id[thread + half];
      }
    }
    __syncthreads();
  }
  if (thread == 0) out[blockIdx.x] = best_id[0];
}
