"""Hand-made pairs for the answer checker, by kind: one `prediction ;; gold` a line."""

from __future__ import annotations

EQUAL = {
    "sentences": r"""
We have $x^2=9$, so $x=3$ or $x=-3$. The sum of squares is $9+9=\boxed{18}$. ;; 18
Thus the answer is $\frac{3}{4}+\frac{1}{4}=1$. ;; 1
Hence $f(2)=4$ and the final answer is $\boxed{4}$. I hope it is correct. ;; 4
The final answer is $12$. I hope it is correct. ;; 12
Final Answer: The final answer is $\frac{1}{2}$. I hope it is correct. ;; 0.5
So there are 12 ways. The answer is 12. ;; 12
The number of ways is $\binom{6}{2} = 15$. ;; 15
The number of ways is $3! = 6$. ;; 6
The average is (3+5+7)/3 = 5. ;; 5
The perimeter is 2*(3+4) = 14 cm. ;; 14 cm
Area = (1/2)*3*4 = 6 ;; 6
A = \pi r^2 = 9\pi ;; 9\pi
A = πr² = 9π ≈ 28.27 ;; 28.27
A = πr² = 9π ≈ 28.27 ;; 9π
$9\pi \approx 28.27$ ;; 9\pi
x \approx 3.14 ;; 3.14
$x \approx 3.14$ ;; 3.14
The value is approximately 3.14. ;; 3.14
The value is about $3.14$. ;; 3.14
It is roughly 20%. ;; 20%
The total is $1,234.50. ;; 1234.50
Total: $1,234.50 ;; 1234.5
The cost was \$12. ;; 12
She paid $12 for 3 books. ;; 12
He is 12 years old. ;; 12
There will be 12 left ;; 12
The remaining is 12 apples. ;; 12 apples
Only 12. ;; 12
Exactly 12 ;; 12
It equals 12. ;; 12
n = 12 works ;; 12
The smallest such n is 12. ;; 12
The smallest such $n$ is $12$. ;; 12
The largest prime factor of 36 is 3. ;; 3
The sum of 5 and 7 is 12. ;; 12
If x = 3, then y = 12. ;; 12
Since a = 3 and b = 4, c = 5. ;; 5
With $a=3$, $b=4$ we get $c=5$. ;; 5
The roots are $1$ and $2$. ;; 1, 2
The roots are 1 and 2. ;; 1,2
The roots are $x = 1, 2$. ;; 1,2
The roots are $x_1 = 1$ and $x_2 = 2$. ;; 1, 2
x_1 = 1, x_2 = 2 ;; 1, 2
The coordinates are $(3, -4)$. ;; (3,-4)
The coordinates of B are (3, -4). ;; (3, -4)
The matrix is $\begin{pmatrix}1&0\\0&1\end{pmatrix}$. ;; \begin{bmatrix}1&0\\0&1\end{bmatrix}
The vector is $\begin{pmatrix}1\\2\\3\end{pmatrix}$. ;; (1,2,3)
The set is $\{1,2,3\}$. ;; {1,2,3}
The interval is $[0, 1)$. ;; [0,1)
The domain is $x \geq 0$. ;; [0,\infty)
The range is $(-\infty, 3]$. ;; y \le 3
The solution is $x > 2$. ;; (2,\infty)
All real numbers except 0. ;; all real numbers except 0
The triangle is right-angled. ;; right-angled
The shape is a circle. ;; circle
It is a circle ;; circle
circle. ;; Circle
The colour of the ball is red. ;; red
Answer: red ;; red
Answer: Red circle ;; red circle
The person is John. ;; John
John ;; john
The month is March. ;; March
It is on Monday. ;; Monday
Monday ;; monday
The letter is Q. ;; Q
The answer is "red". ;; red
The answer is 'red'. ;; red
The answer is: red. ;; red
The answer is \text{red}. ;; red
$\text{red}$ ;; red
\boxed{red} ;; red
\boxed{\text{red circle}} ;; red circle
\boxed{\mathrm{red}} ;; red
\boxed{ \text{ red } } ;; red
no ;; No.
No. There are more. ;; no
Yes, because 5 > 3. ;; yes
Yes ;; True
Answer: Yes ;; yes
The statement is true. ;; true
The statement is false. ;; false
答案：$\frac{1}{2}$ ;; 1/2
答案:12 ;; 12
最终答案：12 ;; 12
因此答案是 $\boxed{12}$ ;; 12
所以一共有12只鸡。 ;; 12
小明有12个苹果。 ;; 12
面积是12平方米 ;; 12 m²
答：12元。 ;; 12
解：x=12 ;; 12
综上，x=12。 ;; 12
故答案为：12 ;; 12
故答案为：B. ;; B
故选B。 ;; B
应选择B ;; B
选项B正确 ;; B
B选项 ;; B
答案是选项B ;; B
Donc la réponse est 12. ;; 12
La réponse finale est 12. ;; 12
Il lui reste 12 euros. ;; 12
Il y a donc 12 élèves. ;; 12
Le prix est de 12 €. ;; 12 €
El resultado es 12. ;; 12
En total hay 12 lápices. ;; 12
Das Ergebnis ist 12. ;; 12
Das sind 12 Euro. ;; 12
Er hat noch 12 Äpfel. ;; 12
Il risultato è 12. ;; 12
O resultado é 12. ;; 12
Результат равен 12. ;; 12
У него 12 яблок. ;; 12
Таким образом, ответ: 12. ;; 12
正解は12です ;; 12
正解はB ;; B
したがって、答えは12である。 ;; 12
따라서 답은 12입니다. ;; 12
따라서 정답은 12 ;; 12
इसलिए, उत्तर 12 है। ;; 12
अतः उत्तर B है ;; B
الإجابة هي 12 ;; 12
الجواب: 12 ;; 12
ดังนั้น คำตอบคือ 12 ;; 12
Vậy đáp án là 12. ;; 12
Jadi, jawabannya adalah 12. ;; 12
Sonuç 12'dir. ;; 12
Wynik to 12. ;; 12
Het antwoord is dus 12. ;; 12
""",
    "what stands beside the answer": r"""
5 = AB ;; 5
5 ;; 5 = AB
5 cm = AB ;; AB = 5
AB = 5 ;; 5 cm = AB
\boxed{12} cm ;; 12 cm
The number of ways is $\binom{6}{2} = 15$. ;; 15
$9\pi \approx 28.27$ ;; 28.27
$x < 5$ is the solution. ;; x<5
Therefore, $x < 5$ is the solution. ;; (-∞, 5)
She has 12 cm left. ;; 12 cm
It weighs 12 kg in total. ;; 12 kg
So y = 3. ;; y = 3
So y = 3. ;; 3
The equation is y = 2x + 3. ;; y = 2x + 3
10^-3 ;; 0.001
5x^-2 ;; \frac{5}{x^2}
10^+3 ;; 1000
The speed is 5 m/s. ;; 5 m/s
The area is $14$ cm². ;; 14 cm^2
It costs 220 € in 12 months. ;; 220 €
""",
    "Unicode": r"""
１，０００ ;; 1000
٢٥ ;; 25
५ ;; 5
2½ ;; 5/2
½ ;; 0.5
√2/2 ;; \frac{1}{\sqrt{2}}
∛27 ;; 3
x³ ;; x^3
x^{2} ;; x²
2x² + 3x ;; 3x+2x^2
π/4 ;; \frac{\pi}{4}
0.7854 ;; π/4
|−3| ;; 3
36\pi ;; 36π cm³
AB = 3\sqrt{2} cm ;; 3√2
x = 3 × 4 = 12 ;; 12
5√3 ;; 5\sqrt{3}
x² ;; x^2
½ ;; 1/2
3½ ;; 3.5
2π ;; 2\pi
x₁+x₂ ;; x_1+x_2
""",
    "degrees": r"""
90° ;; 90
90 degrees ;; 90°
π/2 rad ;; 90°
1.57 rad ;; π/2
30°15' ;; 30.25°
\sin 30^\circ ;; 1/2
\frac{\sqrt{3}}{2} ;; \cos 30°
∠A = 30° ;; 30
\frac{\pi}{6} \text{ radians} ;; 30^\circ
30^{\circ} ;; 30
30^{\circ} ;; 30°
\angle ABC = 30^\circ ;; 30 degrees
-7°C ;; -7
m\angle A = 30 ;; 30
The value of x is 12°. ;; 12
Therefore the angle ABC is 60 degrees. ;; 60
100 °F ;; 100
22 °C ;; 22°C
36 degrees ;; 36^\circ
""",
    "expressions": r"""
(1+i)^2 ;; 2i
2i ;; (1+i)^2
(1+i)(1-i) ;; 2
2 ;; (1+i)(1-i)
i^2 ;; -1
-1 ;; i^2
e^{i\pi} ;; -1
-1 ;; e^{i\pi}
\sqrt{-4} ;; 2i
2i ;; \sqrt{-4}
\frac{1}{i} ;; -i
-i ;; \frac{1}{i}
\frac{1+i}{1-i} ;; i
i ;; \frac{1+i}{1-i}
3i+2 ;; 2+3i
2+3i ;; 3i+2
x ;; x^1
x^1 ;; x
a ;; a+0
a+0 ;; a
\lg 100 ;; 2
2 ;; \lg 100
z = (1+i)^2 ;; 2i
2i ;; z = (1+i)^2
x = -1 ;; -1
f(x)=2x+3 ;; 2x+3
2(x+1) ;; 2x+2
(x-1)(x+1) ;; x^2-1
\frac{1}{x+1} ;; 1/(x+1)
2\ln 3 ;; \ln 9
10! ;; 3628800
1+2i ;; 2i+1
y = \frac{1}{2} x + 3 ;; x/2+3
a^2+b^2 ;; b^2 + a^2
x=1/2+1/3=5/6 ;; 5/6
2+3i ;; 3i + 2
\frac{1}{2}+\frac{\sqrt{3}}{2}i ;; \frac{1+\sqrt{3}i}{2}
\ln e^2 ;; 2
\frac{x^2-1}{x-1} ;; x+1
(x+1)(x+2) ;; x^2+3x+2
3x+2y=6 ;; 6=2y+3x
y = 3x - 2 ;; 3x - y = 2
y-2=3(x-1) ;; y=3x-1
x^2 + y^2 = 4 ;; y^2+x^2=4
|x| ;; |x|
3.5k ;; 3.5k
\rm{cm} ;; cm
x^{1/2} ;; \sqrt{x}
\sin^2 x + \cos^2 x ;; 1
\frac{n(n+1)}{2} ;; \frac{n^2+n}{2}
n^2+n ;; n(n+1)
k(k-1) ;; k^2-k
V=\frac{4}{3}\pi r^3 ;; \frac{4\pi r^3}{3}
12 μm ;; 12 μm
30 ;; x = 30
\frac{x}{7}+\frac{2}{7} ;; \frac{x+2}{7}
x^2 + 2*x + 1 ;; (x+1)^2
""",
    "letters": r"""
The correct option is (B). ;; B
(B) ;; B
**B** ;; B
B) 12 ;; B
\text{(B)} ;; B
\textbf{(B) } 12 ;; B
**Answer:** B ;; B
Final Answer: (C) ;; C
Answer: C. 15 ;; C
The correct answer is D) 12 ;; D
Therefore the answer is B ;; B
the answer is option b ;; B
My answer: A ;; A
(b) ;; B
Choice B ;; B
B: 12 ;; B
\text{(E)} ;; E
คำตอบคือ B ;; B
A and C ;; AC
It's not A because that is odd, so I think it's B ;; B
b ;; B
""",
    "matrices": r"""
[[1,2],[3,4]] ;; \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{bmatrix}0.5\\0.25\end{bmatrix} ;; \begin{pmatrix}\frac12\\\frac14\end{pmatrix}
\begin{pmatrix}1 & 2\end{pmatrix} ;; \left(\begin{array}{cc}1 & 2\end{array}\right)
\begin{pmatrix}0.333&0.67\\1&2\end{pmatrix} ;; \begin{pmatrix}1/3&2/3\\1&2\end{pmatrix}
\begin{bmatrix}1\\2\\3\end{bmatrix} ;; \begin{pmatrix}1\\2\\3\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} ;; (1,2)
\begin{pmatrix} 2 & 0 \\ 0 & 2 \end{pmatrix} ;; \begin{bmatrix} 2&0\\0&2 \end{bmatrix}
\begin{bmatrix}1 & 0 \\ 0 & 1\end{bmatrix} ;; \begin{pmatrix}1 & 0 \\0 & 1\end{pmatrix}
""",
    "money and percent": r"""
2,74 € ;; 2.74
50 percent ;; 50%
50% ;; 1/2
12.5% ;; 0.125
US$5 ;; $5
5 USD ;; $5
USD 5 ;; $5
$1,250.00 ;; 1250
$0.50 ;; 50 cents
$2.5 ;; $2.50
€5 ;; 5 euros
₹500 ;; 500
Rs. 500 ;; ₹500
£3.20 ;; 3.20 pounds
After 5 days, she has 30 dollars. ;; 30
100.0% ;; 1
$3+4=7$ ;; 7
15\% ;; 0.15
0.15 ;; 15\%
\$1{,}234.50 ;; 1234.50
\$ 3.50 ;; 3.5
3.5 USD ;; $3.50
So the perimeter is $2(3+4)=14$ cm. ;; 14
**Final Answer:** The area is $12$. ;; 12
**Final Answer**: $12$ ;; 12
3/5 or 60% ;; 3/5
60% (3/5) ;; 60%
3.54*10^-7 dollars ;; 3.54e-07
Therefore, Weng earned $10. ;; 10
So she earned $10 in total. ;; 10
She pays 5 + 7 = 12 dollars. ;; 12
5 + 7 = 12 dollars ;; 12
Total cost = $3 × 4 = $12. ;; 12
The probability is 25%. ;; 0.25
It costs $3.50. ;; $3.50
It costs 3 dollars and 50 cents. ;; $3.50
The answer is $12$ and not $13$. ;; 12
\$10 ;; 10 dollars
50% ;; 0.5
Adding both, we get $3+4=7$, so the total is 7. ;; 7
""",
    "numbers": r"""
5 choose 2 ;; 10
10 ;; 5 choose 2
十二 ;; 12
12 ;; 十二
二十 ;; 20
20 ;; 二十
二十一 ;; 21
21 ;; 二十一
三百零五 ;; 305
305 ;; 三百零五
一百二十 ;; 120
120 ;; 一百二十
1e3 ;; 1000
-0 ;; 0
+5 ;; 5
- 5 ;; -5
1'000 ;; 1000
1,00,000 ;; 100000
1 000 000 ;; 1000000
1 234.5 ;; 1234.5
1,234.50 ;; 1234.5
1.234,56 ;; 1234.56
0.\overline{3} ;; \frac{1}{3}
0.\overline{3} ;; 1/3
0.1\overline{6} ;; 1/6
0.(3) ;; 1/3
0.333... ;; 1/3
3\tfrac12 ;; 3.5
2 3/4 ;; 11/4
#### 12 ;; 12
3.14159 ;; 3.14
1.4142 ;; \sqrt{2}
e^{2} ;; e^2
\binom{5}{2} ;; 10
2^{10} ;; 1024
\sqrt[3]{8} ;; 2
\frac{3}{5} ;; 0.6
0.6 ;; \frac35
3.0 ;; 3
approximately 3.14 ;; 3.14
≈3.14 ;; 3.14
\frac{-1}{2} ;; -\frac{1}{2}
-\frac{1}{2} ;; \frac{1}{-2}
100,000 ;; 100000
12,345,678 ;; 12345678
204_5 ;; 204_{5}
AB = 5 ;; 5
\log_{10} 100 ;; 2
2^{-3} ;; \frac18
8^{2/3} ;; 4
\frac{1}{2}\pi ;; \pi/2
113.1 ;; 36\pi
\approx 3.14 ;; 3.14
3.14\ldots ;; 3.14
= 12 ;; 12
12.0 ;; 12
12. ;; 12
0012 ;; 12
+12 ;; 12
(12) ;; 12
[12] ;; 12
"12" ;; 12
'12' ;; 12
`12` ;; 12
12; ;; 12
1.2e1 ;; 12
1.2 \times 10^1 ;; 12
1.2·10¹ ;; 12
12/1 ;; 12
24/2 ;; 12
3*4 ;; 12
2^2*3 ;; 12
\sqrt{144} ;; 12
half ;; 1/2
-7 ;; negative 7
minus 7 ;; -7
1\over2 ;; 0.5
\frac{1}2 ;; \frac{1}{2}
\frac1{2} ;; 0.5
\sqrt 2 ;; \sqrt{2}
\sqrt[3]2 ;; \sqrt[3]{2}
12\,000 ;; 12000
12\ 000 ;; 12000
\mathbf{12} ;; 12
\textbf{12} ;; 12
\underline{12} ;; 12
\displaystyle\frac{1}{2} ;; 1/2
3.54*10^-7 ;; 3.54e-07
3.54e-07 ;; 3.54*10^{-7}
1. ;; 1
5/8 ;; 0.625
\frac{1}{2} \cdot 3 ;; 1.5
2 \times 3 ;; 6
1-\frac{1}{e} ;; 1-e^{-1}
\frac{\sqrt{2}}{2} ;; \frac{1}{\sqrt{2}}
\sqrt{8} ;; 2\sqrt{2}
3^{1/2} ;; \sqrt{3}
\log_{2}{8} ;; 3
\tan^{-1}(1) ;; \frac{\pi}{4}
P(A)=0.5 ;; 0.5
P = \frac{1}{6} ;; 1/6
\overline{AB} = 5 ;; 5
คำตอบคือ 12 ;; 12
1000 ;; 1 000
1,000,000 ;; 1000000
3 1/2 ;; 3.5
-3 1/2 ;; -3.5
0.50 ;; .5
\frac12 ;; 0.5
twenty-five ;; 25
about 12 ;; 12
1.67 ;; 5/3
0.3333333 ;; \frac{1}{3}
1/3 ;; 0.33
2, 1 ;; 1, 2
""",
    "other languages": r"""
答案是5 ;; 5
答案：5 ;; 5
所以答案是 5 厘米。 ;; 5 cm
答えは5です。 ;; 5
答えは5 ;; 5
답은 5입니다. ;; 5
정답: 5 ;; 5
La réponse est 5. ;; 5
La respuesta es 5. ;; 5
Die Antwort ist 5. ;; 5
Die Lösung lautet 5. ;; 5
Ответ: 5 ;; 5
Ответ: 5. ;; 5
A resposta é 5. ;; 5
La risposta è 5. ;; 5
Het antwoord is 5. ;; 5
उत्तर 5 है। ;; 5
الجواب هو 5 ;; 5
Đáp án là 5. ;; 5
Jawabannya adalah 5. ;; 5
Cevap: 5 ;; 5
Odpowiedź: 5 ;; 5
故选：B ;; B
所以选 B。 ;; B
答案选B ;; B
正确答案是B ;; B
La réponse est B. ;; B
答えはBです ;; B
정답은 B입니다 ;; B
Ответ: B ;; B
Elle aura 220 $ dans 12 mois. ;; 220
是 ;; yes
oui ;; yes
不是 ;; no
Il y a 12 pommes. ;; 12
Hay 12 manzanas. ;; 12
Es gibt 12 Äpfel. ;; 12
一共有12个苹果。 ;; 12
总共12个 ;; 12
12个 ;; 12
12元 ;; 12
12 元 ;; ¥12
12平方厘米 ;; 12 cm²
12立方米 ;; 12 m^3
角度是30度 ;; 30°
所以，x=12。 ;; 12
因此，面积为12平方厘米。 ;; 12
合計は12個です。 ;; 12
모두 12개입니다. ;; 12
Всего 12 яблок. ;; 12
Итого: 12 ;; 12
कुल 12 ;; 12
la réponse est 12 cm ;; 12
La bonne réponse est B ;; B
La réponse est la lettre B. ;; B
Réponse: B ;; B
Réponse : 12 ;; 12
答案：B ;; B
所以答案是B ;; B
答案是 B: 红色 ;; B
B。因为它是红色的。 ;; B
答案是“A” ;; A
答案是(C) ;; C
答案是12。 ;; 12
答案是 $12$ ;; 12
答案为$\frac{1}{2}$ ;; 0.5
La respuesta correcta es la B. ;; B
La respuesta correcta es B ;; B
Die richtige Antwort ist B. ;; B
Правильный ответ: B ;; B
Ответ: 12 см ;; 12
Risposta: 12 ;; 12
Resposta: B ;; B
""",
    "prose": r"""
The total is 3 + 4 = 7. ;; 7
Final answer: **12** ;; 12
The answer is yes. ;; Yes
Result = 12 ;; 12
There are twelve. ;; 12
She has 12 left. ;; 12
one half ;; 1/2
three quarters ;; 3/4
one hundred ;; 100
does not exist ;; does not exist
an acute angle ;; acute angle
Also hat Anna 12 Äpfel. ;; 12
The probability is 1/4. ;; 0.25
The probability is $\frac{1}{4}$. ;; 1/4
The equation is y = 2x + 3. ;; y=2x+3
The answer is twelve. ;; 12
The answer is 12 because 3 times 4 is 12. ;; 12
12 is the answer. ;; 12
\text{The answer is } 12 ;; 12
$\text{Answer: } 12$ ;; 12
The answer is **12**. ;; 12
**12** ;; 12
The circle is red. ;; red
The answer is 12. ;; 12
5 \leq x ;; x \geq 5
""",
    "ratios and ranges": r"""
1:2 ;; 2:4
2:3:4 ;; 4:6:8
1 : √3 ;; 1:\sqrt{3}
3 to 1 ;; 3:1
3/4 ;; 3:4
the ratio is 3:4 ;; 3:4
Answer: 12 (twelve) ;; 12
Solution: 12 ;; 12
area: 12 ;; 12
Total: 12 ;; 12
5 : 3 ;; 5:3
10:6 ;; 5:3
5/3 ;; 5:3
ratio 5:3 ;; 5:3
Svar: 12 ;; 12
The ratio is 2 to 3. ;; 2:3
The ratio of a to b is 2:3. ;; 2:3
Answer: 12. Explanation: 3*4. ;; 12
### Final Answer: 12 ;; 12
2:4 ;; 1:2
1/2 ;; 1:2
""",
    "relations and intervals": r"""
]1,2[ ;; (1,2)
x > 5 ;; (5, \infty)
x>5 ;; 5 < x
x \in (5, \infty) ;; (5,\infty)
(-∞, 1) ∪ (2, ∞) ;; (2,∞)∪(-∞,1)
x < 1 or x > 2 ;; (-\infty, 1) \cup (2, \infty)
-2 ≤ x ≤ 7 ;; [-2, 7]
-2 <= x <= 7 ;; x \in [-2,7]
7 ≥ x ≥ -2 ;; -2 ≤ x ≤ 7
\{x | x > 5\} ;; (5,\infty)
all real numbers ;; \mathbb{R}
(-\infty,\infty) ;; \mathbb{R}
x\neq 3 ;; x ≠ 3
x \ne 3 ;; x != 3
x \in \{1,2\} ;; 1, 2
x\in\{1,2\} ;; \{1,2\}
x < 5 ;; 5 > x
x \leq 3 ;; (-\infty, 3]
(-\infty, 3] ;; x ≤ 3
0 < x < 1 ;; (0,1)
0 < x \le 1 ;; x \in (0, 1]
x \ge 2 \text{ or } x \le -2 ;; (-\infty,-2] \cup [2,\infty)
\left(\frac{1}{2}, \infty\right) ;; x > 0.5
\mathbb{R} ;; \mathbb{R}
\{1,2\} \cup \{3\} ;; \{1,2,3\}
[0,1) \cup (2,3) ;; (2,3)\cup[0,1)
\mathbb{R}\setminus\{0\} ;; \mathbb{R} \setminus \{0\}
(-\infty,0)\cup(0,\infty) ;; (-∞,0)∪(0,∞)
infinity ;; ∞
""",
    "sets, tuples, lists": r"""
(1,2] ;; (1, 2]
{3,1,2} ;; \{1,2,3\}
\{1, 2, 3\} ;; 1, 2, 3
{} ;; ∅
\emptyset ;; \varnothing
1 and 2 ;; 2, 1
x=1 or x=2 ;; 1, 2
x = 1, x = 2 ;; \{1,2\}
x=1, y=2 ;; y=2, x=1
x=1, y=2 ;; (1,2)
(x,y) = (1,2) ;; (1,2)
⟨1,2⟩ ;; \langle 1, 2 \rangle
\langle 1,2\rangle ;; (1,2)
(0.5, 0.25) ;; (1/2, 1/4)
±2 ;; -2, 2
\pm\sqrt{2} ;; \sqrt{2}, -\sqrt{2}
Therefore, x = 12. ;; 12
No, it is not. ;; no
$x = 3$ or $x = -2$ ;; -2, 3
\{(1,2),(3,4)\} ;; (3,4),(1,2)
(1,2), (3,4) ;; (3,4) and (1,2)
So, the answer is \( \frac{3}{4} \). ;; 3/4
{12} ;; 12
(0.5, 1] ;; (1/2, 1]
[0, 2\pi) ;; [0,2π)
[1, 2] ;; [1,2]
one hundred and five ;; 105
No solution ;; no solution
no solution ;; \emptyset
{1 \over 2} ;; 1/2
\left[0,1\right) ;; [0,1)
12,\!000 ;; 12000
x=1, y=2, z=3 ;; (1,2,3)
a=1,b=2 ;; b = 2, a = 1
a=1 and b=2 ;; a=1,b=2
Por lo tanto, Juan tiene 12 manzanas. ;; 12
Donc, il reste 12 pommes. ;; 12
5 * 3 = 15, so the answer is 15. ;; 15
The solutions are x = 1 and x = 2. ;; 1, 2
The solution is (1, 2). ;; (1,2)
The points are (1,2) and (3,4). ;; (3,4),(1,2)
The vertex is at (1, 2). ;; (1,2)
I think the answer is 12, because 3*4 = 12. ;; 12
12, since 3*4=12 ;; 12
A, C ;; C and A
AC ;; A, C
\{3,2,1\} ;; {1,2,3}
6 and 8 ;; 6, 8
Yes, it is. ;; yes
No, wait. The answer is yes. ;; yes
""",
    "tags, boxes, templates": r"""
\boxed{\text{B}} ;; B
$\boxed{5}$ ;; 5
\boxed{5}. ;; 5
\boxed{x=5} ;; 5
\fbox{5} ;; 5
The final answer is $\boxed{\frac{3}{4}}$. ;; 0.75
The answer is: 12<|im_end|> ;; 12
12<|endoftext|>junk 13 ;; 12
12</s> ;; 12
\boxed{\text{Yes}} ;; yes
\boxed{12\text{ cm}} ;; 12
\boxed{12} cm ;; 12
\boxed{(A)} ;; A
\boxed{A) 12} ;; A
\boxed{\textbf{(C)}\ 15} ;; C
The answer is $\boxed{12}$ ;; 12
$$\boxed{12}$$ ;; 12
Thus $x=\boxed{12}$. ;; 12
因此，答案为 \boxed{12} ;; 12
The solution set is {1, 2}. ;; 2,1
\(\boxed{12}\) ;; 12
\[ \boxed{ \frac{ 3 }{ 4 } } \] ;; 3/4
\boxed{3\frac{1}{2}} ;; 3.5
\boxed{(-\infty, 2)} ;; x<2
\boxed{x<2} ;; (-\infty,2)
\boxed{A} and \boxed{C} ;; A, C
so \boxed{12} ;; 12
<think>it may be 5</think><answer>6</answer> ;; 6
""",
    "times, dates, ranks": r"""
4:23 PM ;; 16:23
4:23 p.m. ;; 4:23 PM
04:23 ;; 4:23
12:00 AM ;; 0:00
5 o'clock ;; 5:00
noon ;; 12:00 PM
90 seconds ;; 1.5 min
April 2, 2005 ;; 2 April 2005
2005-04-02 ;; April 2, 2005
March 5th ;; March 5
5th of March ;; March 5
third ;; 3rd
7:32 ;; 7 : 32
5\text{ meters per second} ;; 5 m/s
7:05 a.m. ;; 7:05 AM
7:05 AM ;; 7:05 am
19:05 ;; 7:05 PM
7 PM ;; 7:00 pm
two thirds ;; 2/3
1st ;; first
The train arrives at 4:23 PM. ;; 4:23 PM
The time is 4:23. ;; 4:23
""",
    "units": r"""
2 Nm ;; 2 J
2 J ;; 2 Nm
\boxed{12} A student is left. ;; 12 cm
5°C ;; 41°F
2 A ;; 2000 mA
2000 mA ;; 2 A
2 V ;; 2000 mV
2000 mV ;; 2 V
1 kW ;; 1000 W
1000 W ;; 1 kW
1 kΩ ;; 1000 Ω
1000 Ω ;; 1 kΩ
1 k\Omega ;; 1000 \Omega
1000 \Omega ;; 1 k\Omega
1 kPa ;; 1000 Pa
1000 Pa ;; 1 kPa
1 bar ;; 100 kPa
100 kPa ;; 1 bar
1 J ;; 1 N m
1 N m ;; 1 J
1 J ;; 1 \text{ N}\cdot\text{m}
1 \text{ N}\cdot\text{m} ;; 1 J
1 N ;; 1 kg m/s^2
1 kg m/s^2 ;; 1 N
1 N ;; 1 \text{ kg}\cdot\text{m/s}^2
1 \text{ kg}\cdot\text{m/s}^2 ;; 1 N
1 W ;; 1 J/s
1 J/s ;; 1 W
1 V ;; 1 J/C
1 J/C ;; 1 V
1 Pa ;; 1 N/m²
1 N/m² ;; 1 Pa
1 kWh ;; 3.6 MJ
3.6 MJ ;; 1 kWh
3 Hz ;; 3 s^{-1}
3 s^{-1} ;; 3 Hz
1 acre ;; 43560 ft²
43560 ft² ;; 1 acre
1 acre ;; 43560 ft^2
43560 ft^2 ;; 1 acre
1 gallon ;; 4 quarts
4 quarts ;; 1 gallon
212°F ;; 100°C
100°C ;; 212°F
212 degrees Fahrenheit ;; 100 degrees Celsius
100 degrees Celsius ;; 212 degrees Fahrenheit
0°C ;; 273.15 K
273.15 K ;; 0°C
-40°F ;; -40°C
-40°C ;; -40°F
5 \mu m ;; 5000 nm
5000 nm ;; 5 \mu m
5 µm ;; 0.005 mm
0.005 mm ;; 5 µm
2 kilowatts ;; 2000 watts
2000 watts ;; 2 kilowatts
5 m/s/s ;; 5 m/s²
5 m/s² ;; 5 m/s/s
1 N ;; 1 kg m s^{-2}
1 kg m s^{-2} ;; 1 N
0.5 L ;; 500 mL
500 mL ;; 0.5 L
3 MHz ;; 3000 kHz
3000 kHz ;; 3 MHz
1 Wb ;; 1 T m^2
1 T m^2 ;; 1 Wb
2 A ;; 2
2 ;; 2 A
1 atm ;; 760 torr
760 torr ;; 1 atm
3,5 cm ;; 3.5 cm
5√3 cm ;; 5\sqrt{3}
2 hours 30 minutes ;; 2.5 hours
150 minutes ;; 2 hours and 30 minutes
2h30m ;; 2 h 30 min
1 hour 30 min ;; 90 min
5 feet 6 inches ;; 66 inches
5 ft 6 in ;; 5.5 ft
1.5 m ;; 150 cm
3 m 50 cm ;; 3.5 m
1 km ;; 1000 m
2 kg ;; 2000 g
1 L ;; 1000 mL
1 m^2 ;; 10000 cm^2
36 km/h ;; 10 m/s
10 m/s ;; 10 m s^{-1}
5 N m ;; 5 N·m
25 sq cm ;; 25 cm²
5 cubic meters ;; 5 m³
So the answer is 12 cm. ;; 12
12 students ;; 12
There are 12 students. ;; 12
5 apples ;; 5 apple
7.0 cm ;; 7 cm
10 square units ;; 10
10 units ;; 10
10 units^2 ;; 10
36\pi\text{ cm}^3 ;; 36π
12\sqrt{2}\text{ units} ;; 12√2
x = 12 cm ;; 12
Area = 12 cm^2 ;; 12
twelve apples ;; 12 apples
1 hour ;; 60 minutes
1.5 hours ;; 1 hour 30 minutes
1h 30min ;; 90 minutes
3 days ;; 72 hours
2 weeks ;; 14 days
1 year ;; 12 months
5 lb 8 oz ;; 5.5 lb
1 ft ;; 12 in
5'6" ;; 5 ft 6 in
1 dozen ;; 12
2 dozen ;; 24
3 million ;; 3,000,000
5 cm (50 mm) ;; 5 cm
12\ \rm{cm} ;; 12 cm
\mathrm{12} ;; 12
\frac{3}{4}\text{ hours} ;; 45 minutes
0.75 hours ;; 45 minutes
S = 12 cm^2 ;; 12
Thus, the area is 12 square units. ;; 12
Hence the length of AB is 5√3 cm. ;; 5\sqrt{3}
It takes 2 hours and 30 minutes. ;; 2.5 hours
The missing number is 12 in the sequence. ;; 12
5 units ;; 5
5 units long ;; 5
5 cm long ;; 5 cm
5 inches tall ;; 5 in
12 square meters ;; 12 m²
12 m2 ;; 12 m^2
12m ;; 12 m
12 meters. ;; 12 m
12 Meter ;; 12 m
1.5 million ;; 1500000
5 square meters ;; 5 m^2
12 apples ;; 12
**Answer:** 12 cm ;; 12 cm
""",
    "words and yes or no": r"""
1 1/2 cups ;; 1.5 cups
yes ;; Yes
Yes. ;; yes
True ;; yes
5 ;; five
5 (five) ;; 5
\triangle ABC ;; △ABC
undefined ;; Undefined
DNE ;; DNE
acute ;; Acute
Triangle ABC ;; triangle ABC
\triangle ABC ;; triangle ABC
\text{odd} ;; odd
12 (since 3*4=12) ;; 12
5 mph ;; 5 miles per hour
no ;; False
sin(x)^2 + cos(x)^2 ;; 1
""",
}

NOT_EQUAL = {
    "sentences": r"""
She paid $12 for 3 books. ;; 3
The sum of 5 and 7 is 12. ;; 5
If x = 3, then y = 12. ;; 3
The largest prime factor of 36 is 3. ;; 36
The smallest such n is 12, not 13. ;; 13
Since a = 3 and b = 4, c = 5. ;; 3
The roots are 1 and 2. ;; 1
The shape is not a circle. ;; circle
The shape is a circle or a square. ;; circle
The statement is not true. ;; true
The statement is false. ;; true
It is untrue ;; true
所以答案不是12。 ;; 12
一共有12只鸡和5只鸭。 ;; 12
答案不是B，而是C ;; B
La réponse n'est pas 12. ;; 12
Il n'y a pas 12 élèves. ;; 12
Das Ergebnis ist nicht 12. ;; 12
Результат не равен 12. ;; 12
答えは12ではない ;; 12
답은 12가 아닙니다. ;; 12
उत्तर 12 नहीं है ;; 12
The domain is $x > 0$. ;; [0,\infty)
The final answer is $12$. I hope it is correct. ;; 13
The final answer is 12 or 13. ;; 13
He is 12 years old and she is 13. ;; 12
A is 12 and B is 13 ;; 12
9\pi ;; 9
28 ;; 9π
\boxed{red} ;; dark red
red circle ;; circle
The colour of the ball is red. ;; blue
The red ball ;; red
""",
    "what stands beside the answer": r"""
6 = AB ;; 5
5 = AB ;; CD = 5
AB ;; 5 = AB
\boxed{12} mm ;; 12 cm
The number of ways is $\binom{6}{2} = 10$. ;; 15
The number of ways is $5! = 6$. ;; 120
3 + 4 = 8 ;; 7
$2(3+4)=74$ cm ;; $2(3+4)=14$ cm
$2(3+4)=14$ mm ;; $2(3+4)=14$ cm
$x < 7$ is the solution. ;; $x < 5$ is the solution.
Therefore $x > 5$ is the solution. ;; $x < 5$
She has 12 mm left. ;; 12 cm
So y = 3. ;; x = 3
The equation is k = 2x + 3. ;; y = 2x + 3
4:83 p.m. ;; 4:23 p.m.
4:23 k.m. ;; 4:23 p.m.
3.54*10^+7 ;; 3.54*10^-7
x < 1 and x > 2 ;; x < 1 or x > 2
1 ;; 1 - \frac{1}{ e }
2 ;; 2 + \frac{1}{ x }
52 (since 3*4=12) ;; 12 (since 3*4=12)
52 (since 3*4=12) ;; 12
It costs 220 € in 12 months. ;; 12
The area is $14$ cm². ;; 14 cm
""",
    "Unicode": r"""
3√5 ;; 5√3
x^3 ;; x²
½ ;; ¼
3½ ;; 3/2
π ;; 22/7
2π ;; π^2
π ;; 180
√3 ;; 3
√3 ;; 1.7321²
5√3 ;; √(15)
5√3 ;; √53
2√3 ;; √6
x√2 ;; 2√x
x₁ ;; x^1
""",
    "degrees": r"""
90° ;; 90 cm
90 cm ;; 90°
\angle A = 30 ;; \angle B = 30
5°C ;; 5°F
30 rad ;; 30°
100 °F ;; 100 °C
5 °C ;; 5 °F
""",
    "expressions": r"""
i^2 ;; 1
1 ;; i^2
2i ;; 2
2 ;; 2i
2+3i ;; 2-3i
2-3i ;; 2+3i
(1+i)^2 ;; 2
2 ;; (1+i)^2
\sqrt{-4} ;; 2
2 ;; \sqrt{-4}
\sqrt{-4} ;; -2i
-2i ;; \sqrt{-4}
i ;; x
x ;; i
x ;; x^2
x^2 ;; x
a ;; b+0
b+0 ;; a
a ;; a+1
a+1 ;; a
\lg 100 ;; 10
10 ;; \lg 100
ix^2+i^2 ;; ix^2
ix^2 ;; ix^2+i^2
x^2 ;; x2
x=1 ;; y=1
x=1 ;; x=2
x ;; y
2x ;; 2y
2x ;; x^2
x+1 ;; x-1
2x+3 ;; 2x-3
y=2x+3 ;; y=3x+2
7 ;; 7 = 11a+c
5! ;; 5
10 ;; 10!
12a ;; 12
12th ;; 12
12x ;; 12
012x ;; 12
i ;; 1
x_1 ;; x_2
x_1=3 ;; x_2=3
x=1/2+1/3=5/6 ;; 1/2
2+3i ;; 2-3i
e^{i\pi} ;; 1
3x+2y=6 ;; 3x-2y=6
y=3x-2 ;; y=3x+2
x^2+y^2=4 ;; x^2+y^2=2
12 to 14 ;; 12
x^2 ;; x*2
x^2 ;; 2x
-x ;; x
x-1 ;; 1-x
a/b ;; b/a
a-b ;; b-a
a^b ;; b^a
ab ;; a+b
|x| ;; x
n! ;; n
\sum_{i=1}^{3} i ;; 5
\int_0^1 x dx ;; 1
f(x)=1 ;; f(x)=2
x^{1/2} ;; x^2
n(n+1) ;; n(n-1)
x+y ;; xy
x-y ;; y-x
l2 ;; 12
x=3 ;; y=3
12! ;; 12
11a+c ;; 7 = 11a+c
""",
    "letters": r"""
The answer is not B ;; B
not B ;; B
A ;; B
A, B ;; A
AB ;; A
A and B ;; A
Either A or B ;; B
(A) or (B) ;; A
Answer: A or C ;; A
Answer: A and C ;; C
The answer is A, B ;; A
A B C D ;; A
ABCD ;; A
The answer is not A but B ;; A
Option A is wrong ;; A
(A)(B) ;; A
A/B ;; A
a triangle ;; A
A triangle ;; A
A = 12 ;; A
A, C ;; A
AC ;; C
It is not B ;; B
(B) or (C) ;; B
""",
    "matrices": r"""
\begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1&2\end{pmatrix} ;; \begin{pmatrix}1\\2\end{pmatrix}
\begin{vmatrix}1&2\\3&4\end{vmatrix} ;; \begin{pmatrix}1&2\\3&4\end{pmatrix}
\begin{pmatrix}0.3\\0.2\end{pmatrix} ;; \begin{pmatrix}1/3\\1/5\end{pmatrix}
[[1,2],[3,4]] ;; [[1,2],[3,5]]
[[1,2],[3,4]] ;; [1,2,3,4]
\begin{pmatrix}1\\2\end{pmatrix} ;; (2,1)
\begin{pmatrix}1&0\\0&1\end{pmatrix} ;; 1
\begin{pmatrix}1&2\\3&4\end{pmatrix} ;; -\begin{pmatrix}1&2\\3&4\end{pmatrix}
""",
    "money and percent": r"""
$5 ;; 5%
€5 ;; $5
$5 ;; 5 cents
5% ;; 0.5
50% ;; 0.05
10% ;; 10 cm
15\% ;; 1.5
1.5% ;; 0.15
In 5 days she has 30 dollars. ;; 5
3 $ ;; 3 €
3% ;; 3 dollars
3° ;; 3%
5 + 7 = 12 dollars ;; 5
It costs $3.50. ;; $3.05
3 dollars and 50 cents ;; $3.05
The answer is $12$ and not $13$. ;; 13
5% ;; 50%
""",
    "numbers": r"""
5 choose 2 ;; 12
12 ;; 5 choose 2
十二 ;; 13
13 ;; 十二
二十 ;; 12
12 ;; 二十
十二 ;; 102
102 ;; 十二
一百二 ;; 102
102 ;; 一百二
1e3 ;; 100
1e3 ;; 1
12, 13 ;; 12
12-13 ;; 12
10-12 ;; 12
2^3 ;; 3^2
23 ;; 2^3
-5 ;; 5
5 ;; -5
1/3 ;; 0.3
0.3 ;; 1/3
0.33 ;; 0.333
0.667 ;; 0.6666
2/3 ;; 3/2
1/2 ;; 2
3 1/2 ;; 31/2
1,000 ;; 1.000
1.000 ;; 1000
3,5 ;; 3.5
1 2 ;; 12
1,2 ;; 12
1,234 ;; 1.234
1 000 ;; 1
50 ;; 0.5
\frac{1}{2} ;; \frac{2}{1}
\sqrt{2} ;; 2
\pi ;; 3
3.14 ;; 3.15
3.1 ;; 3.14
12+ ;; 12
12- ;; 12
120 ;; 12
1.2 ;; 12
.12 ;; 12
0.12 ;; 12
12/1.5 ;; 12
1/12 ;; 12
-(-12) ;; -12
twelve ;; 13
twenty-one ;; 12
none ;; 0
None ;; red
e ;; 2.7
204_5 ;; 204
1011_2 ;; 1011
AB=5 ;; CD=5
1-3 ;; 1-4
3-1 ;; 2-1
0.5 ;; 0.05
5.0e-3 ;; 5.0e3
3+4=7 ;; 8
\log 100 ;; 10
8^{3/2} ;; 4
36\pi ;; 36
36 ;; 36\pi
113.2 ;; 36\pi
half ;; 2
negative 7 ;; 7
12~14 ;; 13
12... ;; 1
A=5 ;; 5A
3.0 ;; 3.1
3.00 ;; 3.01
0.3 ;; 0.03
0.30 ;; 0.31
299 ;; 300
1/3 ;; 1/4
\log_2 3 ;; \log_3 2
\lfloor 2.5 \rfloor ;; 2.5
\binom{5}{2} ;; 5/2
1\over2 ;; 2
\frac{12}{3} ;; 12/4
12\,000 ;; 12
3.54*10^-7 ;; 3.54e7
\sqrt{8} ;; 2\sqrt{3}
\tan^{-1}(1) ;; \tan(1)
AB = 3\sqrt{2} ;; 2\sqrt{3}
AC ;; AB
\frac{3}{4} ;; \frac{4}{3}
0.75 ;; 0.075
1,5 ;; 1.5
1.500 ;; 1500
1,500 ;; 1.5
1,500 ;; 1.500
0,5 ;; 0.5
\alpha ;; \beta
N ;; M
10 ;; 010.5
10 ;; 1O
-1/2 ;; 1/2
-(1/2) ;; 1/2
--5 ;; -5
5- ;; 5
5-5 ;; 5
1.7 ;; 5/3
1 ;; 1.2
\frac{7}{15} ;; 0.5
none ;; 12
 ;; 12
""",
    "other languages": r"""
答案不是5 ;; 5
答案是5或6 ;; 5
答案是15 ;; 5
不选B ;; B
不是B ;; B
La réponse n'est pas 5. ;; 5
Die Antwort ist nicht 5. ;; 5
La respuesta no es 5. ;; 5
Ответ не 5 ;; 5
La réponse est B ;; C
La bonne réponse n'est pas B ;; B
答案不是B ;; B
答案是A或B ;; A
答案是1,2 ;; 1
La respuesta no es B ;; B
Die Antwort ist nicht B. ;; B
""",
    "prose": r"""
anything but 12 ;; 12
less than 12 ;; 12
more than 12 ;; 12
Not yes ;; yes
\sin x ;; \cos x
red circle ;; blue circle
not red ;; red
not acute ;; acute
x = 12 is impossible ;; 12
12 is not the answer ;; 12
There is no answer ;; no
I don't think it is 12 ;; 12
sin x ;; sin^{-1} x
The answer is 12 because 3 times 4 is 12. ;; 3
It is more than 12. ;; 12
It is nearly 13 but not 12. ;; 12
The number 12 is too small. ;; 12
12 would be wrong ;; 12
Let x = 12. ;; 13
Could be 12 ;; 13
The answer cannot be determined. ;; 12
The answer is not 12. ;; 12
There are 16 bags with more than 12 buttons. ;; 12
""",
    "ratios and ranges": r"""
2:1 ;; 1:2
1:2 ;; 1:3
2,3,4 ;; 2:3:4
5:3 ;; 3:5
The ratio of a to b is 2:3. ;; 3:2
""",
    "relations and intervals": r"""
≥ 12 ;; 12
<12 ;; 12
∞ ;; -∞
infinity ;; 1
[0,∞) ;; (0,∞)
x > 5 ;; x ≥ 5
x > 5 ;; [5,∞)
x > 5 ;; (-∞,5)
x<5 ;; x>5
x>5 ;; y>5
x > 5 ;; 5
x>5 ;; x>6
(1,2) ∪ (3,4) ;; (1,4)
(1,2)∪(3,4) ;; (1,2)∩(3,4)
inf ;; 0
x \le 3 ;; (-\infty,3)
0<x<1 ;; [0,1]
0 < x < 1 ;; 0 < y < 1
0<x<1 ;; 1
x>2 or x<-2 ;; (-2,2)
x>2 and x<5 ;; x>2 or x<5
\{1,2\} \cup \{3\} ;; \{1,2\}
[0,1) \cup (2,3) ;; [0,1) \cup (2,3]
\mathbb{R}\setminus\{0\} ;; \mathbb{R}
> 12 ;; 12
x < 5 ;; x > 5
""",
    "sets, tuples, lists": r"""
(1,2) ;; [1,2]
[1,2] ;; [1,2)
12 or 13 ;; 12
12 and 13 ;; 13
±12 ;; 12
12 ± 1 ;; 12
{1,2} ;; {1,2,3}
{1,2} ;; {1,3}
{1,2,2} ;; {1,2,3}
(2,1) ;; (1,2)
(1,2,3) ;; (1,2)
(1,2) ;; 12
x=2,y=1 ;; x=1,y=2
yes and no ;; yes
12? ;; 12 or 13
red and blue ;; red
The answer is 12? No, it's 13. ;; 12
The answer is 12. Wait, it is 13. ;; 12
The answer is between 12 and 13. ;; 12
(1,2),(3,4) ;; (2,1),(4,3)
(0,1) ;; (1,0)
(1,2) ;; 1.2
(1,2) ;; 3
no solution ;; 0
3/5 or 4/5 ;; 3/5
between 12 and 14 ;; 13
The sides are 3 and 4. ;; 3
The sides are 3, 4. ;; 4
If x = 12, the claim fails. ;; 13
The answer is unclear, maybe 12 ;; 12
Not sure, but 12? ;; 13
\{1,2\} ;; (1,2,3)
\emptyset ;; 0
\emptyset ;; \{0\}
{0} ;; {}
1,2,3 ;; 3,2
1,1,2 ;; 1,2,2
x=1,y=2,z=3 ;; (3,2,1)
a=1,b=2 ;; a=2,b=1
5 * 3 = 15, so the answer is 15. ;; 5
The solutions are x = 1 and x = 2. ;; 1
The solutions are x = 1 and x = 2. ;; 2
The points are (1,2) and (3,4). ;; (1,2)
I think the answer is 12, because 3*5 = 15. ;; 15
12, since 3*4=12 ;; 3
12 is not the answer, 13 is ;; 12
The difference between 15 and 12 is 3. ;; 12
The numbers are 12 and 15. ;; 12
If it were 12, we would be done. ;; 12
x = 12 or x = 15 ;; 12
x = 12, 15 ;; 15
A, C ;; A, B
2,5,7 ;; 2.5,7
3.5 ;; 3,5
1,2,3 ;; 1,2
It is 12 or 13. ;; 12
""",
    "tags, boxes, templates": r"""
\boxed{12} \boxed{13} ;; 13
<answer></answer> ;; 12
<answer>13</answer> 12 ;; 12
12 <answer>13</answer> ;; 12
\boxed{13}, not 12 ;; 12
\boxed{12} and \boxed{13} ;; 12
\boxed{12}, \boxed{13} ;; 13
\boxed{12} papers and \boxed{13} bins ;; 12
7}. The answer is: 8 ;; 7
\boxed{x<2} ;; (2,\infty)
\boxed{x<2} ;; 2
\boxed{A} and \boxed{C} ;; A
\boxed{12} but \boxed{13} ;; 12
First 12, then I correct it to \boxed{15} ;; 12
50\sqrt{3}}. so it is 50\sqrt{3 ;; 50
50\sqrt{3}}.so:50\sqrt{3 ;; 50
""",
    "times, dates, ranks": r"""
4:32 ;; 4:23
4:23 AM ;; 4:23 PM
16:23 ;; 4:23 AM
4:23 PM ;; 4:23 AM
16:24 ;; 4:23 PM
2.30 ;; 2:30
April 2, 2005 ;; April 3, 2005
2005-04-02 ;; 2005-02-04
March 5 ;; 5
2005 ;; April 2, 2005
third ;; second
3rd ;; 4th
I first thought 12, but it is 13. ;; 12
7:05 AM ;; 7:05 PM
19:05 ;; 7:05 AM
7 PM ;; 7 AM
7 PM ;; 7
7:05 ;; 7.05
7:05 ;; 705
March 5 ;; May 5
March 5, 2020 ;; March 5, 2021
5/6/2020 ;; June 5, 2020
5/6/2020 ;; 6/5/2020
one third ;; 3
two thirds ;; 3/2
first ;; last
first ;; 2nd
The train arrives at 4:23 PM. ;; 4:23 AM
4:23 ;; 4:32
2:40 ;; 1:20
04/02/2005 ;; 0.00
""",
    "units": r"""
2 nm ;; 2 J
2 nm ;; 2 Nm
2 A ;; 2000 A
2 mW ;; 2 MW
2 V ;; 2000 mA
1 kΩ ;; 1000 W
1 J ;; 1 N/m
1 N ;; 1 kg m/s
1 kWh ;; 3.6 kJ
3 Hz ;; 3 s
1 acre ;; 43560 ft
1 gallon ;; 8 quarts
212°F ;; 212°C
100°C ;; 373 °F
0°C ;; 273.15 °F
5 µm ;; 5 mm
5A ;; 5
5 K ;; 5000
10C3 ;; 10
120 ;; 10C3 C
2 hours 30 minutes ;; 2.3 hours
2 hours 30 minutes ;; 230 minutes
2 hours ;; 2 minutes
1.5 m ;; 15 cm
1.5 m ;; 1.5 cm
10 cm ;; 10 m
10 cm^2 ;; 10 cm^3
10 cm ;; 10 cm^2
10 m/s ;; 10 m
10 km/h ;; 10 m/s
10 kg ;; 10 g
cm ;; 12 cm
We have 12 apples and 13 pears. ;; 12
12 apples ;; 12 pears
5 lb 8 oz ;; 5.8 lb
5'6" ;; 5.6 ft
1 h 30 min ;; 1.3 h
2 dozen ;; 2
3 million ;; 3
3 million ;; 3 billion
5 cm or 6 cm ;; 5 cm
She has 12 apples and 5 pears. ;; 12
3 m ;; 3 min
3 m ;; 3 mm
3 s ;; 3 h
3 cm ;; 3 cm²
3 N ;; 3 J
3 kg ;; 3 m
3 L ;; 3 mL
0.75 hours ;; 75 minutes
It takes 2 hours and 30 minutes. ;; 2 hours
It takes 2 hours and 30 minutes. ;; 30 minutes
It is at least 12 cm. ;; 12 cm
5 cm long ;; 5 m
5 inches tall ;; 5 ft
12 m2 ;; 12 m
12 mm ;; 12 m
12 μm ;; 12 m
5 mph ;; 5 km/h
12 m ;; 12 minutes
12m ;; 12mm
25 cm ;; 25 cm^2
2 ;; 2m
""",
    "words and yes or no": r"""
not 12 ;; 12
It isn't 12 ;; 12
12 is wrong ;; 12
at most 12 ;; 12
No ;; yes
Yes ;; no
maybe ;; yes
I don't know ;; yes
I don't know ;; 12
unknown ;; 12
circle ;; square
blue ;; red
reddish ;; red
nan ;; 0
null ;; 0
true ;; 1
False ;; 0
DNE ;; 0
acute ;; obtuse
triangle ABC ;; triangle ABD
odd ;; even
12 (not 13) ;; 13
It can't be 12. ;; 12
\Delta ;; \delta
at least 12 ;; 12
No ;; Yes
""",
}
