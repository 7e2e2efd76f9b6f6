"""The drawn diagrams of the lessons, as SVG from code.

    python tools/diagrams.py [folder]    writes nbs/images/diagram_*.svg

Each is a card with its own paper, so it reads on a light and on a dark page; where the reader prefers dark,
it turns dark. Every drawing carries its alt text as `<title>` and `<desc>`; lessons use the same words.
"""
import sys
from dataclasses import dataclass
from pathlib import Path

from drawing import Drawing, Slabs, bars, filled, gray, on, part_colors, part_names, purple, ring, slabs, soft
from drawing import blue, green, orange, tile
from family_drawings import families

images = Path(__file__).resolve().parent.parent/'nbs/images'

# --- teacher and student

def teacher_student():
    title = 'A student can learn from the answers of its teacher, and from its features'
    alt = ('An image goes into a large, frozen teacher and into a small student. '
           'Both are three stages and a head. Knowledge distillation compares the two answers, '
           'feature distillation compares what the stages give. '
           'The label says only which class is right.')
    d = Drawing('teacher_student', title, alt, height=470)
    teacher = Slabs(
        lefts=[214, 356, 508, 664], widths=[78, 88, 92, 70],
        heights=[96, 80, 64, 48], middle=150)
    student = Slabs(
        lefts=[226, 368, 520, 676], widths=[54, 64, 68, 56],
        heights=[58, 48, 40, 34], middle=365)
    image_for_both(d, teacher, student)
    both_networks(d, teacher, student)
    compared_stages(d, teacher, student)
    compared_answers(d, teacher, student)
    return d

def image_for_both(d, teacher, student):
    "The image, and its way into both networks"
    tile(d, 40, 212, 86)
    d.words(83, 318, 'one image', 'small soft')
    d.arrow((130, 240), (168, 240), (168, teacher.middle), (205, teacher.middle))
    d.arrow((130, 270), (168, 270), (168, student.middle), (205, student.middle))

def both_networks(d, teacher, student):
    d.lock(222, 84)
    d.words(238, 88, 'teacher: large, trained, stands still', 'bold', 'start')
    d.words(214, 430, 'student: small, learns', 'bold', 'start')
    slabs(d, teacher, 'dashed')
    slabs(d, student, 'solid', names=False)

def compared_stages(d, teacher, student):
    "Feature distillation: from each stage of the teacher to the student's"
    for k in range(3):
        x = teacher.center(k)
        d.arrow((x, teacher.bottom(k) + 6), (x, student.top(k) - 9), color=ring, dash='3 5')
    d.pill(440, 258, 250, 'feature distillation: stages')

def compared_answers(d, teacher, student):
    "Both answers, what compares them, and the label"
    d.arrow((740, teacher.middle), (782, teacher.middle))
    d.arrow((738, student.middle), (782, student.middle))
    names = 'shirt', 'coat', 'dress'
    bars(d, 792, 178, [58, 30, 16], gray, names, 'dashed', 30)
    bars(d, 792, 394, [44, 38, 20], purple, names, 'solid', 30)
    d.arrow((845, 206), (845, 330), color=ring, dash='3 5')
    d.pill(845, 258, 168, 'KD: answers')
    bars(d, 944, 394, [60, 1, 1], 'var(--ink)', names, 'solid', 30)
    d.words(997, 430, 'label: one is right', 'small soft')
    d.arrow((934, student.middle), (912, student.middle), dash='3 5')

# --- stages, taps and adapters

def stages():
    title = 'Each stage ends in a tap, and an adapter makes two taps comparable'
    alt = ('Teacher above, student below, each of three stages and a head. '
           "At the end of each stage is a tap. The student's tap s_k goes up through an adapter a_k, "
           "a 1x1 convolution, to the teacher's number of channels, "
           "and the mimic loss is its distance from the teacher's tap h_k, the hint.")
    d = Drawing('stages', title, alt, height=596)
    teacher = Slabs(
        lefts=[160, 400, 650, 910], widths=[112, 122, 130, 100],
        heights=[104, 84, 66, 50], middle=150)
    student = Slabs(
        lefts=[177, 417, 667, 918], widths=[78, 88, 96, 84],
        heights=[72, 58, 46, 40], middle=470)
    slabs(d, teacher, 'dashed', ['32 × 28 × 28', '64 × 14 × 14', '128 × 7 × 7'])
    slabs(d, student, 'solid', ['16 × 28 × 28', '32 × 14 × 14', '64 × 7 × 7'])
    d.words(36, 155, 'teacher', 'bold', 'start')
    d.words(36, 475, 'student', 'bold', 'start')
    d.arrow((108, teacher.middle), (151, teacher.middle))
    d.arrow((108, student.middle), (168, student.middle))
    for k in range(3): tap_and_adapter(d, student, k)
    d.words(36, 275, 'mimic loss', 'small soft', 'start')
    d.words(36, 378, 'adapter', 'small soft', 'start')
    sizes = 'Sizes: channels × height × width, for a student of half the width.'
    d.words(36, 568, sizes, 'tiny soft', 'start')
    return d

def tap_and_adapter(d, student, k):
    "From the student's tap up through the adapter to the mimic loss, and from the hint down to it"
    x = student.lefts[k] + student.widths[k] + 54
    color = part_colors[k]
    d.add('path', d=f'M{x},157 V241', class_='wire')
    d.arrow((x, 463), (x, 401))
    shape = f'M{x-30},352 h60 l-14,40 h-32 z'
    d.add('path', d=shape, fill=color, fill_opacity=.34, stroke=color, stroke_width=2)
    d.words(x, 378, f'*a_{k+1}*')
    d.arrow((x, 350), (x, 301))
    d.dot(x, 150, color)
    d.dot(x, 470, color)
    d.words(x + 12, 208, f'*h_{k+1}*', '', 'start')
    d.words(x + 12, 440, f'*s_{k+1}*', '', 'start')
    d.pill(x, 270, 156, f'‖*a_{k+1}*(*s_{k+1}*) − *h_{k+1}*‖²')

# --- phases

def phases():
    title = 'One part learns at a time, and nothing after it runs'
    alt = ('Four rows, one for each phase. In phase k of the first three, stage k of the student learns, '
           'its earlier stages are frozen, and nothing after it runs; '
           'the teacher runs up to stage k to give the hint. In the fourth phase the backbone is frozen '
           'and the head learns from labels; the teacher does not run.')
    d = Drawing('phases', title, alt, height=440)
    d.words(300, 96, 'student', 'bold')
    d.words(680, 96, 'teacher', 'bold')
    d.words(962, 96, 'learns from', 'bold')
    for k in range(4): phase(d, k, 142 + 62*k)
    legend(d, 394, dict(
        solid='learns', frozen='frozen, in eval mode',
        dashed='teacher, without gradients', off='does not run'))
    return d

def phase(d, k, y):
    "The row of phase k: which parts run, and what teaches the one that learns"
    d.words(36, y + 5, f'phase {k+1}', 'bold', 'start')
    chain(d, 130, y, ['frozen']*k + ['solid'] + ['off']*(3 - k))
    runs = k + 1 if k < 3 else 0   # parts of the teacher
    chain(d, 510, y, ['dashed']*runs + ['off']*(4 - runs))
    for j in range(k): d.lock(130 + 88*j + 64, y - 15)
    if k < 3: d.pill(962, y, 176, f'hint of stage {k+1}', filled)
    else: d.pill(962, y, 176, 'labels', soft['light'])

def chain(d, x, y, states, w=74, h=34, gap=14):
    "Four parts in a row, each in a state"
    kinds = dict(off='tiny soft')
    for k, state in enumerate(states):
        left = x + k*(w + gap)
        d.box(left, y - h/2, w, h, part_colors[k], state, r=7)
        kinds['solid'] = f'tiny bold {on(part_colors[k])}'
        d.words(left + w/2, y + 4, part_names[k], kinds.get(state, 'tiny bold'))
        opacity = .35 if state == 'off' else 1
        if k: d.add('path', d=f'M{left-gap+2},{y} h{gap-4}', class_='wire', opacity=opacity)

def legend(d, y, entries):
    "What each look of a box means; `entries`: state -> words"
    x = 130
    for state, text in entries.items():
        d.box(x, y - 9, 26, 18, blue, state, r=4)
        d.words(x + 36, y + 5, text, 'small soft', 'start')
        x += 70 + 7.2*len(text)

# --- stitched networks

part_width, part_gap = 118, 26   # of the parts in a stitched network

def stitched():
    title = 'Stitched: the student up to stage k, then the rest of the teacher'
    alt = ("Three rows. In row k an image passes through the student's stages 1 to k, an adapter, "
           "then the teacher's remaining stages and its head, which answers. "
           "After stage 3 only the teacher's head is left. "
           'The share of right answers is the stitched accuracy of stage k.')
    d = Drawing('stitched', title, alt, height=440)
    tile(d, 40, 186, 86)
    d.words(83, 292, 'one image', 'small soft')
    for row in range(3): stitched_row(d, row, 130 + 100*row)
    question = ('Nothing is trained here. '
                'The question is what the teacher makes of what the student passes on.')
    d.words(36, 412, question, 'small soft', 'start')
    return d

def stitched_row(d, row, y):
    "One network: after the student's part `row` an adapter, then the teacher's parts"
    d.arrow((130, 229), (158, 229), (158, y), (187, y))
    x = 196
    for k in range(4):
        stitched_part(d, x, y, k, 'student' if k <= row else 'teacher')
        x += part_width
        if k == row:
            adapter_after(d, x, y, k)
            x += 52
            d.arrow((x, y), (x + part_gap - 9, y))
        elif k < 3: d.arrow((x + 2, y), (x + part_gap - 9, y))
        x += part_gap
    d.arrow((x - part_gap + 2, y), (x - 3, y))
    d.pill(x + 62, y, 116, f'after stage {row+1}')

def stitched_part(d, x, y, k, whose):
    "Part k of the student or of the teacher, with its name and its owner's"
    color, center = part_colors[k], x + part_width/2
    state = 'solid' if whose == 'student' else 'dashed'
    name_kind, owner_kind = ('', 'soft') if whose == 'teacher' else (on(color), on(color))
    d.box(x, y - 27, part_width, 54, color, state)
    d.words(center, y - 1, part_names[k], f'small bold {name_kind}')
    d.words(center, y + 16, whose, f'tiny {owner_kind}')

def adapter_after(d, x, y, k):
    "The adapter after part k of the student"
    color = part_colors[k]
    shape = f'M{x+10},{y-16} l40,-10 v52 l-40,-10 z'
    d.add('path', d=shape, fill=color, fill_opacity=.34, stroke=color, stroke_width=2)
    d.words(x + 30, y + 5, f'*a_{k+1}*')
    d.add('path', d=f'M{x+1},{y} h8', class_='wire')

# --- the map

@dataclass
class Compared:
    "What a method compares"
    color: str
    words: str

kinds = dict(
    answers=Compared(blue, 'answers'),
    values=Compared(green, 'the values of a tap'),
    places=Compared(orange, 'where a tap is active'),
    relations=Compared(purple, 'relations between images'))

@dataclass
class Method:
    name: str
    authors: str
    id: str     # on arXiv, or the conference
    kind: str   # what it compares, a key of `kinds`

map_columns = ['Answers', 'One tap', 'Several taps']
map_rows = [  # a name, and two lines that explain it
    ('All at once', 'one sum of', 'losses'),
    ('In phases', 'one part, then', 'the next'),
    ('Apart', 'each stage is fed', 'by the teacher')]
method_places = {  # (row, column) -> methods
    (0, 0): [
        Method('KD', 'Hinton et al. 2015', '1503.02531', 'answers'),
        Method('DKD', 'Zhao et al. 2022', '2203.08679', 'answers'),
        Method('DIST', 'Huang et al. 2022', '2205.10536', 'answers')],
    (0, 1): [
        Method('RKD', 'Park et al. 2019', '1904.05068', 'relations'),
        Method('SP', 'Tung & Mori 2019', '1907.09682', 'relations'),
        Method('CRD', 'Tian et al. 2020', '1910.10699', 'relations'),
        Method('SimKD', 'Chen et al. 2022', '2203.14001', 'values')],
    (0, 2): [
        Method('AT', 'Zagoruyko & K. 2017', '1612.03928', 'places'),
        Method('ReviewKD', 'Chen et al. 2021', '2104.09044', 'values')],
    (1, 1): [
        Method('FitNets', 'Romero et al. 2015', '1412.6550', 'values')],
    (1, 2): [
        Method('SSKD', 'Gao et al. 2018', '1812.01819', 'values'),
        Method('Progressive Blockwise KD', 'Wang et al. 2018', 'IJCAI 2018', 'values')],
    (2, 2): [
        Method('LIT', 'Koratana et al. 2019', '1810.01937', 'values'),
        Method('DNA', 'Li et al. 2020', '1911.13053', 'values')]}

lefts, column_width = [168, 462, 756], 272       # of the columns
tops, row_heights = [122, 356, 482], [222, 114, 122]

def family_map():
    title = 'A map of distillation: what is compared, and when each part learns'
    alt = ('A table of methods. Columns: compare answers, one tap, several taps. '
           'Rows: all at once, in phases, and apart, each stage fed by the teacher. '
           'All at once: KD, DKD and DIST compare answers; RKD, SP, CRD and SimKD one tap; '
           'attention transfer and ReviewKD several. In phases: FitNets one tap, '
           'stage-by-stage distillation (SSKD) and Progressive Blockwise KD several. '
           'Apart: LIT and DNA, several.')
    d = Drawing('map', title, alt, height=700)
    for x, text in zip(lefts, map_columns): d.words(x + 12, 104, text, 'bold', 'start')
    for row in range(3): map_row(d, row)
    for (row, column), methods in method_places.items():
        for i, method in enumerate(methods): chip(d, lefts[column] + 10, tops[row] + 12 + 52*i, method)
    map_legend(d)
    return d

def map_row(d, row):
    "A row's name, what it means, and its empty cells; a cell without methods is fainter"
    y = tops[row]
    name, *lines = map_rows[row]
    d.words(36, y + 32, name, 'bold', 'start')
    for i, text in enumerate(lines): d.words(36, y + 54 + 18*i, text, 'small soft', 'start')
    for column, x in enumerate(lefts):
        opacity = .32 if (row, column) in method_places else .1
        d.add('rect', x=x, y=y, width=column_width, height=row_heights[row], rx=12,
              fill='var(--line)', fill_opacity=opacity)

def chip(d, x, y, method):
    "A method and who proposed it"
    color = kinds[method.kind].color
    border = 3 if method.name == 'SSKD' else 1.5
    d.add('rect', x=x, y=y, width=column_width - 20, height=44, rx=9, fill=color, fill_opacity=.16,
          stroke=color, stroke_width=border)
    d.add('circle', cx=x + 15, cy=y + 15, r=5, fill=color)
    d.words(x + 27, y + 19, method.name, 'small bold', 'start')
    d.words(x + 27, y + 36, f'{method.authors} · {method.id}', 'tiny soft', 'start')

def map_legend(d):
    "Which color stands for what is compared"
    x = 168
    for kind in kinds.values():
        d.add('circle', cx=x + 8, cy=645, r=6, fill=kind.color)
        d.words(x + 24, 650, kind.words, 'small soft', 'start')
        x += 56 + 7.4*len(kind.words)

# --- all of them

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
    folder = Path(sys.argv[1]) if sys.argv[1:] else images
    for path in write(folder): print(path)

if __name__ == '__main__': main()
