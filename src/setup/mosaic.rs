//! Frames as text: small images side by side, each with a line above it.
//!
//! A character is two pixels, one above the other: in colour by the half block and 24-bit colours,
//! without colour by how much ink a character has.

/// A small image, RGB8, `[rows, columns, 3]`.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// Columns and rows.
    pub size: [usize; 2],
    /// Its pixels.
    pub rgb: &'a [u8],
}

/// Characters by their ink, least first.
const INKS: &[u8] = b" .:-=+*#%@";

/// Columns of a row of `n` images of `width` columns, with a blank between two.
const fn columns_of(n: usize, width: usize) -> usize {
    n * (width + 1) - 1
}

/// Images in rows that fit `columns`; all of one size.
pub fn mosaic(tiles: &[Tile<'_>], columns: usize, in_colour: bool) -> String {
    let Some(first) = tiles.first() else { return String::new() };
    let width = first.size[0];
    let most = (1..=tiles.len()).take_while(|n| columns_of(*n, width) <= columns).last().unwrap_or(1);
    let mut out = String::new();
    for row in tiles.chunks(most) {
        let titles: Vec<String> = row.iter().map(|tile| format!("{:<width$}", tile.title)).collect();
        out += titles.join(" ").trim_end();
        out.push('\n');
        for y in (0..first.size[1]).step_by(2) {
            let parts: Vec<String> = row.iter().map(|tile| line(tile, y, in_colour)).collect();
            out += &parts.join(" ");
            out.push('\n');
        }
    }
    out
}

/// Two rows of pixels from `y` on.
fn line(tile: &Tile<'_>, y: usize, in_colour: bool) -> String {
    let [width, height] = tile.size;
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y.min(height - 1) * width + x);
        [tile.rgb[at], tile.rgb[at + 1], tile.rgb[at + 2]]
    };
    let shown = |x: usize| {
        let ([r, g, b], [s, h, c]) = (pixel(x, y), pixel(x, y + 1));
        if in_colour {
            return format!("\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m\u{2580}");
        }
        let grey = [r, g, g, b, s, h, h, c].map(usize::from).iter().sum::<usize>() / 8;
        char::from(INKS[grey * (INKS.len() - 1) / 255]).to_string()
    };
    let mut out: String = (0..width).map(shown).collect();
    if in_colour {
        out += "\x1b[0m";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_side_by_side_as_far_as_they_fit() {
        let rgb: Vec<u8> = [0u8, 255, 255, 0].into_iter().flat_map(|level| [level; 3]).collect();
        let tile = |title| Tile { title, size: [2, 2], rgb: &rgb };
        let tiles = [tile("1"), tile("2"), tile("3")];
        assert_eq!(mosaic(&tiles, 5, false), "1  2\n== ==\n3\n==\n", "both columns are half black, half white");
        assert_eq!(mosaic(&tiles, 1, false).lines().count(), 6, "one a row where none fits");
        let coloured = mosaic(&tiles[..1], 80, true);
        assert_eq!(coloured.matches('\u{2580}').count(), 2);
        assert!(coloured.contains("38;2;0;0;0;48;2;255;255;255m") && coloured.ends_with("\x1b[0m\n"), "{coloured:?}");
        assert_eq!(mosaic(&[], 80, true), "");
    }

    #[test]
    fn an_odd_number_of_rows_shows_the_last_one_alone() {
        let rgb = [vec![0; 6], vec![0; 6], vec![255; 6]].concat();
        let shown = mosaic(&[Tile { title: "a", size: [2, 3], rgb: &rgb }], 80, false);
        assert_eq!(shown, "a\n  \n@@\n");
    }
}
