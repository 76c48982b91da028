// The blocked matrix product. The strict tables use it for gradients. The fast tables use it for gradients and for products of
// many rows if OpenBLAS is not used.
//
// A block of b is packed into panels that are as wide as a tile of y. Then the rows of a are packed, a few at a time, and
// multiplied by all panels. The sums of a tile stay in registers while up to RWKV_MULTIPLY_BLOCK inner elements are added in
// order; then they are added to y. The results therefore do not depend on the size of a tile or on its position in y.

#ifndef RWKV_TILES
#define RWKV_TILES
// The number of rows in a tile, and the number of bytes in a vector. A row of a tile is two vectors wide. The sums of a tile fit
// in registers, along with two vectors of b and one number from a.
#define TILE_ROWS_baseline 4
#define TILE_ROWS_avx2 6
#define TILE_ROWS_avx512 12
#define VECTOR_BYTES_baseline 16
#define VECTOR_BYTES_avx2 32
#define VECTOR_BYTES_avx512 64
_Static_assert(
    RWKV_MULTIPLY_SCRATCH >=
        RWKV_MULTIPLY_BLOCK * (RWKV_MULTIPLY_BLOCK + TILE_ROWS_avx512) + TILE_ROWS_avx512 * 2 * VECTOR_BYTES_avx512 / sizeof(float),
    "a block of b, rows of a and a tile fit into the scratch memory");
#endif

// Interleaves up to `width` rows of a or columns of b: packed[i][lane] = x[lane][i]. If there are fewer, the remaining lanes are
// zero.
ALWAYS_INLINE void NAME(pack)(
    const REAL *x, size_t lane_stride, size_t inner_stride, size_t lanes, size_t inner, const size_t width, REAL *packed) {
    if (lanes > width) lanes = width;
    for (size_t i = 0; i < inner; i++, x += inner_stride, packed += width) {
        if (lanes == width && lane_stride == 1)
            memcpy(packed, x, width * sizeof *x);
        else if (lanes == width)
            for (size_t lane = 0; lane < width; lane++) packed[lane] = x[lane * lane_stride];
        else
            for (size_t lane = 0; lane < width; lane++) packed[lane] = lane < lanes ? x[lane * lane_stride] : 0;
    }
}

typedef void NAME(tile)(size_t inner, const REAL *a, const REAL *b, REAL *y, size_t y_stride);

ALWAYS_INLINE void NAME(multiply)(
    size_t rows, size_t columns, size_t inner, const REAL *a, size_t a_row, size_t a_inner, const REAL *b, size_t b_inner,
    size_t b_column, int adds, REAL *y, size_t y_stride, REAL *scratch, NAME(tile) *tile, const size_t tile_rows,
    const size_t tile_columns) {
    enum { BLOCK = RWKV_MULTIPLY_BLOCK };
    REAL *panels = scratch, *packed = panels + BLOCK * BLOCK, *edge = packed + BLOCK * tile_rows;
    if (!adds)
        for (size_t row = 0; row < rows; row++) memset(y + row * y_stride, 0, columns * sizeof *y);
    for (size_t left = 0; left < columns; left += BLOCK) {
        const size_t width = columns - left < BLOCK ? columns - left : BLOCK;
        for (size_t start = 0; start < inner; start += BLOCK) {
            const size_t depth = inner - start < BLOCK ? inner - start : BLOCK;
            for (size_t column = 0; column < width; column += tile_columns)
                NAME(pack)(
                    b + start * b_inner + (left + column) * b_column, b_column, b_inner, width - column, depth, tile_columns,
                    panels + column * depth);
            for (size_t row = 0; row < rows; row += tile_rows) {
                const size_t height = rows - row < tile_rows ? rows - row : tile_rows;
                NAME(pack)(a + row * a_row + start * a_inner, a_row, a_inner, height, depth, tile_rows, packed);
                for (size_t column = 0; column < width; column += tile_columns) {
                    REAL *target = y + row * y_stride + left + column;
                    if (height == tile_rows && width - column >= tile_columns) {
                        tile(depth, packed, panels + column * depth, target, y_stride);
                        continue;
                    }
                    memset(edge, 0, tile_rows * tile_columns * sizeof *edge);
                    tile(depth, packed, panels + column * depth, edge, tile_columns);
                    for (size_t i = 0; i < height; i++)
                        for (size_t j = 0; j < tile_columns && j < width - column; j++)
                            target[i * y_stride + j] += edge[i * tile_columns + j];
                }
            }
        }
    }
}

#define MULTIPLY(SUFFIX, TARGET)                                                                             \
    typedef REAL NAME(vector_##SUFFIX) __attribute__((vector_size(VECTOR_BYTES_##SUFFIX), aligned(sizeof(REAL)))); \
    TARGET static void NAME(tile_##SUFFIX)(size_t inner, const REAL *a, const REAL *b, REAL *y, size_t y_stride) { \
        enum { HEIGHT = TILE_ROWS_##SUFFIX, WIDTH = VECTOR_BYTES_##SUFFIX / sizeof(REAL) };                  \
        NAME(vector_##SUFFIX) sums[HEIGHT][2];                                                               \
        for (int row = 0; row < HEIGHT; row++) sums[row][0] = sums[row][1] = (NAME(vector_##SUFFIX)){0};     \
        for (size_t i = 0; i < inner; i++, a += HEIGHT, b += 2 * WIDTH) {                                    \
            const NAME(vector_##SUFFIX) left = *(const NAME(vector_##SUFFIX) *)b;                            \
            const NAME(vector_##SUFFIX) right = *(const NAME(vector_##SUFFIX) *)(b + WIDTH);                 \
            for (int row = 0; row < HEIGHT; row++) {                                                         \
                sums[row][0] += left * a[row];                                                               \
                sums[row][1] += right * a[row];                                                              \
            }                                                                                                \
        }                                                                                                    \
        for (int row = 0; row < HEIGHT; row++, y += y_stride) {                                              \
            *(NAME(vector_##SUFFIX) *)y += sums[row][0];                                                     \
            *(NAME(vector_##SUFFIX) *)(y + WIDTH) += sums[row][1];                                           \
        }                                                                                                    \
    }                                                                                                        \
    TARGET static void NAME(multiply_##SUFFIX)(                                                              \
        size_t rows, size_t columns, size_t inner, const void *a, size_t a_row, size_t a_inner, const void *b, size_t b_inner, \
        size_t b_column, int adds, void *y, size_t y_stride, void *scratch) {                                \
        NAME(multiply)(                                                                                      \
            rows, columns, inner, a, a_row, a_inner, b, b_inner, b_column, adds, y, y_stride, scratch, NAME(tile_##SUFFIX), \
            TILE_ROWS_##SUFFIX, 2 * VECTOR_BYTES_##SUFFIX / sizeof(REAL));                                   \
    }
FOR_EACH_INSTRUCTION_SET(MULTIPLY)
#undef MULTIPLY
