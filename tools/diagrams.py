"""The drawn diagrams of the lessons, as SVG from code.

    python tools/diagrams.py [folder]    writes nbs/images/diagram_*.svg

Each is a card with its own paper, so it reads on a light and on a dark page; where the reader prefers dark, it turns dark.
Every drawing carries its alt text as `<title>` and `<desc>`; lessons use the same words.
"""
import sys
from pathlib import Path

from drawing import Drawing, bars, filled, gray, on, part_colors, part_names, purple, ring, slabs, soft, tile
from drawing import blue, green, orange
from family_drawings import families

images = Path(__file__).resolve().parent.parent/'nbs/images'

def teacher_student():
    d = Drawing('teacher_student', 'A student can learn from the answers of its teacher, and from its features', height=470, alt=
        'An image goes into a large, frozen teacher and into a small student. Both are three stages and a head. '
        "Knowledge distillation compares the two answers, feature distillation compares what the stages give. "
        'The label says only which class is right.')
    tile(d, 40, 212, 86)
    d.words(83, 318, 'one image', 'small soft')
    xs, tw = [214, 356, 508, 664], [78, 88, 92, 70]
    d.arrow((130, 240), (168, 240), (168, 150), (205, 150))
    d.arrow((130, 270), (168, 270), (168, 365), (205, 365))
    d.lock(222, 84)
    d.words(238, 88, 'teacher: large, trained, stands still', 'bold', 'start')
    d.words(214, 430, 'student: small, learns', 'bold', 'start')
    slabs(d, xs, 150, [96, 80, 64, 48], tw, 'dashed')
    slabs(d, [x + 12 for x in xs], 365, [58, 48, 40, 34], [54, 64, 68, 56], 'solid', names=False)
    for k, x in enumerate(xs[:3]):
        mid = x + tw[k]/2
        d.arrow((mid, 150 + [48, 40, 32][k] + 6), (mid, 365 - [29, 24, 20][k] - 9), color=ring, dash='3 5')
    d.pill(440, 258, 250, 'feature distillation: stages')
    d.arrow((740, 150), (782, 150))
    d.arrow((738, 365), (782, 365))
    names = 'shirt', 'coat', 'dress'
    bars(d, 792, 178, [58, 30, 16], gray, names, 'dashed', 30)
    bars(d, 792, 394, [44, 38, 20], purple, names, 'solid', 30)
    d.arrow((845, 206), (845, 330), color=ring, dash='3 5')
    d.pill(845, 258, 168, 'KD: answers')
    bars(d, 944, 394, [60, 1, 1], 'var(--ink)', names, 'solid', 30)
    d.words(997, 430, 'label: one is right', 'small soft')
    d.arrow((934, 365), (912, 365), dash='3 5')
    return d

def stages():
    d = Drawing('stages', 'Each stage ends in a tap, and an adapter makes two taps comparable', height=596, alt=
        'Teacher above, student below, each of three stages and a head. At the end of each stage is a tap. '
        "The student's tap s_k goes up through an adapter a_k, a 1x1 convolution, to the teacher's number of channels, "
        "and the mimic loss is its distance from the teacher's tap h_k, the hint.")
    xs, tw = [160, 400, 650, 910], [112, 122, 130, 100]
    sw, sx = [78, 88, 96, 84], [177, 417, 667, 918]
    slabs(d, xs, 150, [104, 84, 66, 50], tw, 'dashed', ['32 × 28 × 28', '64 × 14 × 14', '128 × 7 × 7'])
    slabs(d, sx, 470, [72, 58, 46, 40], sw, 'solid', ['16 × 28 × 28', '32 × 14 × 14', '64 × 7 × 7'])
    d.words(36, 155, 'teacher', 'bold', 'start')
    d.words(36, 475, 'student', 'bold', 'start')
    d.arrow((108, 150), (151, 150))
    d.arrow((108, 470), (168, 470))
    for k in range(3):
        tap, color = sx[k] + sw[k] + 54, part_colors[k]
        d.add('path', d=f'M{tap},157 V241', class_='wire')
        d.arrow((tap, 463), (tap, 401))
        d.add('path', d=f'M{tap-30},352 h60 l-14,40 h-32 z', fill=color, fill_opacity=.34, stroke=color, stroke_width=2)
        d.words(tap, 378, f'*a_{k+1}*')
        d.arrow((tap, 350), (tap, 301))
        d.dot(tap, 150, color)
        d.dot(tap, 470, color)
        d.words(tap + 12, 208, f'*h_{k+1}*', '', 'start')
        d.words(tap + 12, 440, f'*s_{k+1}*', '', 'start')
        d.pill(tap, 270, 156, f'‖*a_{k+1}*(*s_{k+1}*) − *h_{k+1}*‖²')
    d.words(36, 275, 'mimic loss', 'small soft', 'start')
    d.words(36, 378, 'adapter', 'small soft', 'start')
    d.words(36, 568, 'Sizes: channels × height × width, for a student of half the width.', 'tiny soft', 'start')
    return d

def chain(d, x, y, states, w=74, h=34, gap=14):
    "Four parts in a row, each in a state"
    for k, state in enumerate(states):
        left = x + k*(w + gap)
        d.box(left, y - h/2, w, h, part_colors[k], state, r=7)
        kind = dict(solid=f'tiny bold {on(part_colors[k])}', off='tiny soft').get(state, 'tiny bold')
        d.words(left + w/2, y + 4, part_names[k], kind)
        if k: d.add('path', d=f'M{left-gap+2},{y} h{gap-4}', class_='wire', opacity=.35 if state == 'off' else 1)

def phases():
    d = Drawing('phases', 'One part learns at a time, and nothing after it runs', height=440, alt=
        'Four rows, one for each phase. In phase k of the first three, stage k of the student learns, its earlier stages '
        "are frozen, and nothing after it runs; the teacher runs up to stage k to give the hint. "
        'In the fourth phase the backbone is frozen and the head learns from labels; the teacher does not run.')
    d.words(300, 96, 'student', 'bold')
    d.words(680, 96, 'teacher', 'bold')
    d.words(962, 96, 'learns from', 'bold')
    for k in range(4):
        y = 142 + 62*k
        d.words(36, y + 5, f'phase {k+1}', 'bold', 'start')
        chain(d, 130, y, ['frozen']*k + ['solid'] + ['off']*(3 - k))
        runs = k + 1 if k < 3 else 0
        chain(d, 510, y, ['dashed']*runs + ['off']*(4 - runs))
        for j in range(k): d.lock(130 + 88*j + 64, y - 15)
        d.pill(962, y, 176, f'hint of stage {k+1}' if k < 3 else 'labels', filled if k < 3 else soft['light'])
    legend(d, 394, [('solid', 'learns'), ('frozen', 'frozen, in eval mode'), ('dashed', 'teacher, without gradients'),
        ('off', 'does not run')])
    return d

def legend(d, y, entries):
    x = 130
    for state, text in entries:
        d.box(x, y - 9, 26, 18, blue, state, r=4)
        d.words(x + 36, y + 5, text, 'small soft', 'start')
        x += 70 + 7.2*len(text)

def stitched():
    d = Drawing('stitched', "Stitched: the student up to stage k, then the rest of the teacher", height=440, alt=
        "Three rows. In row k an image passes through the student's stages 1 to k, an adapter, then the teacher's remaining "
        "stages and its head, which answers. After stage 3 only the teacher's head is left. The share of right answers is the "
        'stitched accuracy of stage k.')
    tile(d, 40, 186, 86)
    d.words(83, 292, 'one image', 'small soft')
    w, gap = 118, 26
    for row in range(3):
        y = 130 + 100*row
        d.arrow((130, 229), (158, 229), (158, y), (187, y))
        x = 196
        for k in range(4):
            state = 'solid' if k <= row else 'dashed'
            d.box(x, y - 27, w, 54, part_colors[k], state)
            ours, words_on = state == 'solid', on(part_colors[k])
            d.words(x + w/2, y - 1, part_names[k], f"small bold {words_on if ours else ''}")
            d.words(x + w/2, y + 16, 'student' if ours else 'teacher', f"tiny {words_on if ours else 'soft'}")
            x += w
            if k == row:
                d.add('path', d=f'M{x+10},{y-16} l40,-10 v52 l-40,-10 z', fill=part_colors[k], fill_opacity=.34,
                    stroke=part_colors[k], stroke_width=2)
                d.words(x + 30, y + 5, f'*a_{k+1}*')
                d.add('path', d=f'M{x+1},{y} h8', class_='wire')
                x += 52
                d.arrow((x, y), (x + gap - 9, y))
            elif k < 3: d.arrow((x + 2, y), (x + gap - 9, y))
            x += gap
        d.arrow((x - gap + 2, y), (x - 3, y))
        d.pill(x + 62, y, 116, f'after stage {row+1}')
    d.words(36, 412, 'Nothing is trained here. The question is what the teacher makes of what the student passes on.',
        'small soft', 'start')
    return d

# --- the map

kinds = {  # what is compared: color, words
    'answers': (blue, 'answers'), 'values': (green, 'the values of a tap'), 'places': (orange, 'where a tap is active'),
    'relations': (purple, 'relations between images')}

method_places = {  # (row, column): (name, authors, id, what is compared)
    (0, 0): [('KD', 'Hinton et al. 2015', '1503.02531', 'answers'), ('DKD', 'Zhao et al. 2022', '2203.08679', 'answers'),
             ('DIST', 'Huang et al. 2022', '2205.10536', 'answers')],
    (0, 1): [('RKD', 'Park et al. 2019', '1904.05068', 'relations'), ('SP', 'Tung & Mori 2019', '1907.09682', 'relations'),
             ('CRD', 'Tian et al. 2020', '1910.10699', 'relations'), ('SimKD', 'Chen et al. 2022', '2203.14001', 'values')],
    (0, 2): [('AT', 'Zagoruyko & K. 2017', '1612.03928', 'places'),
             ('ReviewKD', 'Chen et al. 2021', '2104.09044', 'values')],
    (1, 1): [('FitNets', 'Romero et al. 2015', '1412.6550', 'values')],
    (1, 2): [('SSKD', 'Gao et al. 2018', '1812.01819', 'values'),
             ('Progressive Blockwise KD', 'Wang et al. 2018', 'IJCAI 2018', 'values')],
    (2, 2): [('LIT', 'Koratana et al. 2019', '1810.01937', 'values'), ('DNA', 'Li et al. 2020', '1911.13053', 'values')]}

def chip(d, x, y, w, name, authors, id, kind):
    "A method and who proposed it"
    color = kinds[kind][0]
    d.add('rect', x=x, y=y, width=w, height=44, rx=9, fill=color, fill_opacity=.16, stroke=color,
        stroke_width=3 if name == 'SSKD' else 1.5)
    d.add('circle', cx=x + 15, cy=y + 15, r=5, fill=color)
    d.words(x + 27, y + 19, name, 'small bold', 'start')
    d.words(x + 27, y + 36, f'{authors} · {id}', 'tiny soft', 'start')

def family_map():
    d = Drawing('map', 'A map of distillation: what is compared, and when each part learns', height=700, alt=
        'A table of methods. Columns: compare answers, one tap, several taps. Rows: all at once, in phases, and apart, each stage '
        'fed by the teacher. All at once: KD, DKD and DIST compare answers; RKD, SP, CRD and SimKD one tap; attention transfer '
        'and ReviewKD several. In phases: FitNets one tap, stage-by-stage distillation (SSKD) and Progressive Blockwise KD '
        'several. Apart: LIT and DNA, several.')
    xs, w = [168, 462, 756], 272
    ys, hs = [122, 356, 482], [222, 114, 122]
    for x, text in zip(xs, ['Answers', 'One tap', 'Several taps']): d.words(x + 12, 104, text, 'bold', 'start')
    rows = [('All at once', 'one sum of', 'losses'), ('In phases', 'one part, then', 'the next'),
            ('Apart', 'each stage is fed', 'by the teacher')]
    for row, (y, h, (head, *rest)) in enumerate(zip(ys, hs, rows)):
        d.words(36, y + 32, head, 'bold', 'start')
        for i, text in enumerate(rest): d.words(36, y + 54 + 18*i, text, 'small soft', 'start')
        for column, x in enumerate(xs):
            opacity = .32 if (row, column) in method_places else .1
            d.add('rect', x=x, y=y, width=w, height=h, rx=12, fill='var(--line)', fill_opacity=opacity)
    for (row, column), entries in method_places.items():
        for i, entry in enumerate(entries): chip(d, xs[column] + 10, ys[row] + 12 + 52*i, w - 20, *entry)
    x = 168
    for color, text in kinds.values():
        d.add('circle', cx=x + 8, cy=645, r=6, fill=color)
        d.words(x + 24, 650, text, 'small soft', 'start')
        x += 56 + 7.4*len(text)
    return d

drawings = [teacher_student, stages, phases, stitched, family_map, *families]

def write(
    folder: Path,
) -> list:      # of Path
    "Every drawing as a file"
    paths = []
    for draw in drawings:
        d = draw()
        path = folder/f'diagram_{d.name}.svg'
        path.write_text(d.svg())
        paths.append(path)
    return paths

def main():
    for path in write(Path(sys.argv[1]) if sys.argv[1:] else images): print(path)

if __name__ == '__main__': main()
