//! Eigenvalues and eigenvectors of a covariance: Householder's reduction to three diagonals, then
//! QL with implicit shifts (Wilkinson and Reinsch, "Linear Algebra", 1971, II/2 and II/4).
//!
//! Written here because every well-kept crate for it turns on features of crates that tract and
//! burn share, and both would be built a second time.

use rayon::prelude::*;

/// A symmetric matrix; columns one after the other.
pub struct Matrix {
    n: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// Mean of the outer products of `rows` with themselves; each has `n` entries.
    pub fn covariance(rows: &[Vec<f64>], n: usize) -> Self {
        let mut values = vec![0.0; n * n];
        values.par_chunks_mut(n).enumerate().for_each(|(i, column)| {
            for row in rows {
                let factor = row[i];
                column[i..].iter_mut().zip(&row[i..]).for_each(|(sum, value)| *sum += factor * value);
            }
            column.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
        });
        for i in 0..n {
            (0..i).for_each(|j| values[i * n + j] = values[j * n + i]);
        }
        Self { n, values }
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        self.values.iter().step_by(self.n + 1).sum()
    }

    /// Sum of the squares of all entries.
    pub fn square(&self) -> f64 {
        self.values.iter().map(|v| v * v).sum()
    }
}

/// Eigenvalues in no order, each with its unit vector.
pub struct Eigen {
    n: usize,
    /// `[n]`.
    pub values: Vec<f64>,
    vectors: Vec<f64>,
}

/// A dot product in four parts side by side, which a compiler can keep in one register.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut parts = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        (0..4).for_each(|i| parts[i] += a[i] * b[i]);
    }
    parts.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

impl Eigen {
    /// Of a symmetric matrix.
    pub fn of(matrix: Matrix) -> Self {
        let Matrix { n, values: mut columns } = matrix;
        let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
        if n > 0 {
            reduce(n, &mut columns, &mut diagonal, &mut beside);
            iterate(n, &mut columns, &mut diagonal, &mut beside);
        }
        Self { n, values: diagonal, vectors: columns }
    }

    /// The unit vector of eigenvalue `k`.
    pub fn vector(&self, k: usize) -> &[f64] {
        &self.vectors[k * self.n..(k + 1) * self.n]
    }
}

/// Brings a symmetric matrix to its diagonal `d` and the one beside it, `e[1..]`; `v` becomes the
/// reflections' product.
fn reduce(n: usize, v: &mut [f64], d: &mut [f64], e: &mut [f64]) {
    (0..n).for_each(|j| d[j] = v[j * n + n - 1]);
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
                v[i * n + j] = 0.0;
            }
        } else {
            d[..i].iter_mut().for_each(|x| *x /= scale);
            h = dot(&d[..i], &d[..i]);
            let f = d[i - 1];
            let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[i * n + j] = f;
                let column = &v[j * n..j * n + i];
                let g = e[j] + column[j] * f + dot(&column[j + 1..], &d[j + 1..i]);
                e[j + 1..i].iter_mut().zip(&column[j + 1..]).for_each(|(e, value)| *e += value * f);
                e[j] = g;
            }
            e[..i].iter_mut().for_each(|x| *x /= h);
            let half = dot(&e[..i], &d[..i]) / (h + h);
            (0..i).for_each(|j| e[j] -= half * d[j]);
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                (j..i).for_each(|k| v[j * n + k] -= f * e[k] + g * d[k]);
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
            }
        }
        d[i] = h;
    }
    for i in 0..n - 1 {
        v[i * n + n - 1] = v[i * n + i];
        v[i * n + i] = 1.0;
        let h = d[i + 1];
        let (before, behind) = v.split_at_mut((i + 1) * n);
        let reflected = &mut behind[..=i];
        if h != 0.0 {
            (0..=i).for_each(|k| d[k] = reflected[k] / h);
            for column in before.chunks_exact_mut(n) {
                let g = dot(reflected, &column[..=i]);
                column[..=i].iter_mut().zip(&d[..=i]).for_each(|(value, d)| *value -= g * d);
            }
        }
        reflected.fill(0.0);
    }
    for j in 0..n {
        d[j] = v[j * n + n - 1];
        v[j * n + n - 1] = 0.0;
    }
    v[n * n - 1] = 1.0;
    e[0] = 0.0;
}

/// Brings the two diagonals to one, turning the columns of `v` along.
fn iterate(n: usize, v: &mut [f64], d: &mut [f64], e: &mut [f64]) {
    e.rotate_left(1);
    e[n - 1] = 0.0;
    let (mut shift, mut size) = (0.0, 0.0f64);
    for l in 0..n {
        size = size.max(d[l].abs() + e[l].abs());
        let m = (l..n).find(|&m| e[m].abs() <= f64::EPSILON * size).unwrap_or(n - 1);
        // Converges in one or two rounds a value; many more would mean entries that are not
        // numbers.
        for _ in 0..100 {
            if m == l {
                break;
            }
            let g = d[l];
            let p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let next = d[l + 1];
            let h = g - d[l];
            (l + 2..n).for_each(|i| d[i] -= h);
            shift += h;
            let (mut p, beside) = (d[m], e[l + 1]);
            let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
            let (mut s, mut s2) = (0.0, 0.0);
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let (g, h) = (c * e[i], c * p);
                let r = p.hypot(e[i]);
                e[i + 1] = s * r;
                s = e[i] / r;
                c = p / r;
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (a, b) = v[i * n..(i + 2) * n].split_at_mut(n);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
            p = -s * s2 * c3 * beside * e[l] / next;
            e[l] = s * p;
            d[l] = c * p;
            if e[l].abs() <= f64::EPSILON * size {
                break;
            }
        }
        d[l] += shift;
        e[l] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin::random::Random;

    /// Each vector times the matrix is its value times the vector, and vectors are at right angles:
    /// that is all there is to it.
    #[test]
    fn vectors_are_what_the_matrix_only_stretches() {
        for (n, rows, seed) in [(1, 3, 1), (2, 5, 2), (7, 40, 3), (60, 20, 4), (150, 600, 5)] {
            let mut r = Random::new(seed, 0xe1);
            let rows: Vec<Vec<f64>> = (0..rows)
                .map(|_| (0..n).map(|i| (r.range(-1000, 1000) as f64) * (1.0 + (i % 5) as f64)).collect())
                .collect();
            let matrix = Matrix::covariance(&rows, n);
            let at = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / rows.len() as f64;
            assert!(
                (matrix.values[n - 1] - at(0, n - 1)).abs() < 1e-6
                    && (matrix.values[n * n - 1] - at(n - 1, n - 1)).abs() < 1e-6
            );
            let (columns, trace) = (matrix.values.clone(), matrix.trace());
            let eigen = Eigen::of(matrix);
            assert!((eigen.values.iter().sum::<f64>() - trace).abs() < 1e-9 * trace, "{n}: values add up to the trace");
            let largest = eigen.values.iter().copied().fold(0.0, f64::max);
            for k in 0..n {
                let vector = eigen.vector(k);
                for i in 0..n {
                    let stretched = (0..n).map(|j| columns[j * n + i] * vector[j]).sum::<f64>();
                    assert!((stretched - eigen.values[k] * vector[i]).abs() < 1e-9 * largest, "{n}: vector {k}");
                }
                for other in 0..n {
                    let product: f64 = dot(vector, eigen.vector(other));
                    assert!((product - f64::from(u8::from(other == k))).abs() < 1e-9, "{n}: vectors {k} and {other}");
                }
            }
        }
    }

    #[test]
    fn a_matrix_of_nothing_and_a_diagonal_one_are_their_own() {
        let nothing = Eigen::of(Matrix { n: 3, values: vec![0.0; 9] });
        assert_eq!(nothing.values, [0.0; 3]);
        let mut diagonal = Eigen::of(Matrix { n: 2, values: vec![3.0, 0.0, 0.0, 5.0] }).values;
        diagonal.sort_by(f64::total_cmp);
        assert_eq!(diagonal, [3.0, 5.0]);
    }
}
