// The nine pictures of a picture password, drawn for this program. Their order is their number, from 1.

const PICTURES = [
  [
    "Sun",
    '<circle cx="32" cy="32" r="13" fill="#f2b01e"/><g stroke="#f2b01e" stroke-width="5" stroke-linecap="round"><path d="M32 6v6M32 52v6M6 32h6M52 32h6M14 14l4 4M46 46l4 4M50 14l-4 4M18 46l-4 4"/></g>',
  ],
  ["Moon", '<path d="M42 8a25 25 0 1 0 14 36A21 21 0 0 1 42 8z" fill="#5b6fb5"/>'],
  ["Star", '<path d="M32 6l8 17 19 3-14 13 4 19-17-9-17 9 4-19L5 26l19-3z" fill="#d9822b"/>'],
  [
    "Tree",
    '<path d="M28 40h8v18h-8z" fill="#8a5a2b"/><circle cx="32" cy="24" r="17" fill="#3f8f4f"/><circle cx="20" cy="32" r="11" fill="#3f8f4f"/><circle cx="44" cy="32" r="11" fill="#3f8f4f"/>',
  ],
  [
    "House",
    '<path d="M12 30h40v27H12z" fill="#c9a06a"/><path d="M6 32L32 8l26 24z" fill="#b3402f"/><path d="M27 40h10v17H27z" fill="#6b4423"/>',
  ],
  [
    "Fish",
    '<path d="M42 32L58 20v24z" fill="#2b8fb3"/><ellipse cx="26" cy="32" rx="21" ry="14" fill="#2fa3cc"/><circle cx="16" cy="29" r="3" fill="#123"/>',
  ],
  [
    "Flower",
    '<path d="M30 34h4v24h-4z" fill="#3f8f4f"/><g fill="#c2478f"><circle cx="32" cy="12" r="8"/><circle cx="43" cy="20" r="8"/><circle cx="39" cy="32" r="8"/><circle cx="25" cy="32" r="8"/><circle cx="21" cy="20" r="8"/></g><circle cx="32" cy="23" r="7" fill="#f2c94c"/>',
  ],
  [
    "Boat",
    '<path d="M6 42h52l-8 14H14z" fill="#8a5a2b"/><path d="M30 6h4v34h-4z" fill="#6b4423"/><path d="M36 8l18 28H36z" fill="#c0392b"/><path d="M28 14v22H12z" fill="#d98880"/>',
  ],
  [
    "Umbrella",
    '<path d="M30 30h4v20a6 6 0 0 1-12 0h4a2 2 0 0 0 4 0z" fill="#6b4423"/><path d="M6 32a26 26 0 0 1 52 0z" fill="#7a4fb5"/><path d="M6 32a9 9 0 0 1 17 0 9 9 0 0 1 18 0 9 9 0 0 1 17 0" fill="none" stroke="#fff" stroke-width="2"/>',
  ],
];

/** How many pictures are chosen. */
export const CHOSEN = 3;

/** The pictures: `{number, name, svg}`. */
export const pictures = PICTURES.map(([name, content], index) => ({
  number: index + 1,
  name,
  svg: `<svg viewBox="0 0 64 64" aria-hidden="true" focusable="false">${content}</svg>`,
}));
